#include "quantize/temperature.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>

#include "quantize/walk_states.h"

namespace flexq {
namespace {

constexpr size_t kCandidates = 21;
constexpr float kSmallest = 0.5f;
constexpr float kStep = 0.05f;
// Every so many targets: the minimum is flat, and found well enough in a few thousand.
constexpr int32_t kRowStride = 4;

float candidate(size_t index) {
  return kSmallest + kStep * static_cast<float>(index);
}

}  // namespace

Result<float> fit_inverse_temperature(LayerWalk& walk, WeightSource& source,
                                      const CalibrationText& text, StepDone step_done) {
  std::array<float, kCandidates> candidates{};
  for (size_t i = 0; i < kCandidates; ++i)
    candidates[i] = candidate(i);
  std::array<double, kCandidates> nll{};
  FLEXQ_ASSIGN_OR_RETURN(WalkStates states,
                         WalkStates::allocate(walk.state_floats(), 1, text.n_windows()));
  for (int32_t first = 0; first < text.n_windows(); first += states.n_windows()) {
    const int32_t count = std::min(states.n_windows(), text.n_windows() - first);
    for (int32_t w = 0; w < count; ++w)
      FLEXQ_RETURN_IF_ERROR(walk.embed(text.window(first + w), states.at(0, w)));
    for (int32_t layer = 0; layer < source.config().n_layers; ++layer) {
      FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<LlamaModel> model,
                             walk.load_layer(source, layer));
      for (int32_t w = 0; w < count; ++w) {
        FLEXQ_RETURN_IF_ERROR(walk.run_layer(*model, kUnquantizedInputs, states.at(0, w)));
        FLEXQ_RETURN_IF_ERROR(step_done());
      }
    }
    for (int32_t w = 0; w < count; ++w)
      FLEXQ_RETURN_IF_ERROR(walk.add_tempered_nll(text.window(first + w), states.at(0, w),
                                                  kRowStride, candidates, nll));
  }
  const auto best = static_cast<size_t>(std::min_element(nll.begin(), nll.end()) - nll.begin());
  if (best == 0 || best + 1 == kCandidates) return candidates[best];
  // The vertex of the parabola through the least value and its neighbours.
  const double slope = nll[best + 1] - nll[best - 1];
  const double curvature = nll[best + 1] - 2 * nll[best] + nll[best - 1];
  const double offset = curvature > 0 ? -0.5 * slope / curvature : 0;
  return candidates[best] + kStep * static_cast<float>(offset);
}

}  // namespace flexq
