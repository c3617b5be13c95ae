#include "quantize/sensitivity.h"

#include <algorithm>
#include <array>
#include <memory>

#include "quantize/walk_states.h"

namespace flexq {

int64_t sensitivity_steps(int32_t n_layers, int32_t n_windows) {
  return int64_t{n_windows} * int64_t{kLinearKinds} * n_layers * (n_layers + 1) / 2;
}

Result<std::vector<LogitLoss>> measure_sensitivity(LayerWalk& walk, WeightSource& source,
                                                   const CalibrationText& text,
                                                   int32_t activation_bits, StepDone step_done) {
  const int32_t n_layers = source.config().n_layers;
  constexpr auto kKinds = static_cast<int32_t>(kLinearKinds);
  std::vector<LogitLoss> losses(static_cast<size_t>(n_layers) * kLinearKinds);
  // clean.at(l): the unquantized run before layer l, after the last one at n_layers.
  FLEXQ_ASSIGN_OR_RETURN(
      WalkStates clean,
      WalkStates::allocate(walk.state_floats(), n_layers + 1 + kKinds, text.n_windows()));
  const auto perturbed = [&](int32_t kind, int32_t w) { return clean.at(n_layers + 1 + kind, w); };
  const int64_t state_floats = walk.state_floats();

  for (int32_t first = 0; first < text.n_windows(); first += clean.n_windows()) {
    const int32_t count = std::min(clean.n_windows(), text.n_windows() - first);
    for (int32_t w = 0; w < count; ++w)
      FLEXQ_RETURN_IF_ERROR(walk.embed(text.window(first + w), clean.at(0, w)));
    for (int32_t layer = 0; layer < n_layers; ++layer) {
      FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<LlamaModel> model,
                             walk.load_layer(source, layer));
      for (int32_t w = 0; w < count; ++w) {
        std::copy_n(clean.at(layer, w), state_floats, clean.at(layer + 1, w));
        FLEXQ_RETURN_IF_ERROR(walk.run_layer(*model, kUnquantizedInputs, clean.at(layer + 1, w)));
      }
    }
    for (int32_t layer = 0; layer < n_layers; ++layer) {
      for (int32_t kind = 0; kind < kKinds; ++kind)
        for (int32_t w = 0; w < count; ++w)
          std::copy_n(clean.at(layer, w), state_floats, perturbed(kind, w));
      for (int32_t passed = layer; passed < n_layers; ++passed) {
        FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<LlamaModel> model,
                               walk.load_layer(source, passed));
        for (int32_t kind = 0; kind < kKinds; ++kind) {
          LayerBits bits = kUnquantizedInputs;
          if (passed == layer) bits[static_cast<size_t>(kind)] = activation_bits;
          for (int32_t w = 0; w < count; ++w) {
            FLEXQ_RETURN_IF_ERROR(walk.run_layer(*model, bits, perturbed(kind, w)));
            FLEXQ_RETURN_IF_ERROR(step_done());
          }
        }
      }
      const std::span<LogitLoss> of_layer =
          std::span(losses).subspan(static_cast<size_t>(layer) * kLinearKinds, kLinearKinds);
      for (int32_t w = 0; w < count; ++w) {
        std::array<const float*, kLinearKinds> finals;
        for (int32_t kind = 0; kind < kKinds; ++kind)
          finals[static_cast<size_t>(kind)] = perturbed(kind, w);
        FLEXQ_RETURN_IF_ERROR(
            walk.compare(text.window(first + w), clean.at(n_layers, w), finals, of_layer));
      }
    }
  }
  return losses;
}

}  // namespace flexq
