#include "quantize/run_losses.h"

#include <algorithm>
#include <memory>

#include "quantize/walk_states.h"

namespace flexq {
namespace {

// The layer of the weights that the run before needed, kept while runs follow that share them.
class LayerOfRun {
 public:
  LayerOfRun(LayerWalk& walk, int32_t layer) : walk_(walk), layer_(layer) {}

  Result<const LlamaModel*> of(WeightSource& weights) {
    if (weights_ != &weights) {
      model_ = nullptr;
      FLEXQ_ASSIGN_OR_RETURN(model_, walk_.load_layer(weights, layer_));
      weights_ = &weights;
    }
    return model_.get();
  }

 private:
  LayerWalk& walk_;
  const int32_t layer_;
  const WeightSource* weights_ = nullptr;
  std::unique_ptr<LlamaModel> model_;
};

}  // namespace

int64_t run_steps(int32_t n_layers, int32_t n_windows, size_t n_runs) {
  return int64_t{n_layers} * n_windows * static_cast<int64_t>(n_runs);
}

Result<std::vector<std::vector<LogitLoss>>> measure_runs(LayerWalk& walk, WeightSource& source,
                                                         const CalibrationText& text,
                                                         std::span<const PrecisionRun> runs,
                                                         StepDone step_done) {
  std::vector<std::vector<LogitLoss>> losses(
      runs.size(), std::vector<LogitLoss>(static_cast<size_t>(text.n_windows())));
  const auto n_states = static_cast<int64_t>(runs.size()) + 1;  // the last is the reference's
  FLEXQ_ASSIGN_OR_RETURN(WalkStates states,
                         WalkStates::allocate(walk.state_floats(), n_states, text.n_windows()));
  const int32_t n_layers = source.config().n_layers;
  for (int32_t first = 0; first < text.n_windows(); first += states.n_windows()) {
    const int32_t count = std::min(states.n_windows(), text.n_windows() - first);
    for (int32_t w = 0; w < count; ++w)
      for (int64_t s = 0; s < n_states; ++s)
        FLEXQ_RETURN_IF_ERROR(walk.embed(text.window(first + w), states.at(s, w)));
    for (int32_t layer = 0; layer < n_layers; ++layer) {
      LayerOfRun weights(walk, layer);
      for (int64_t s = 0; s < n_states; ++s) {
        const bool is_reference = s + 1 == n_states;
        const PrecisionRun* run = is_reference ? nullptr : &runs[static_cast<size_t>(s)];
        FLEXQ_ASSIGN_OR_RETURN(const LlamaModel* model,
                               weights.of(is_reference ? source : *run->weights));
        const LayerBits& bits =
            is_reference ? kUnquantizedInputs : run->bits[static_cast<size_t>(layer)];
        for (int32_t w = 0; w < count; ++w) {
          FLEXQ_RETURN_IF_ERROR(walk.run_layer(*model, bits, states.at(s, w)));
          if (!is_reference) FLEXQ_RETURN_IF_ERROR(step_done());
        }
      }
    }
    std::vector<const float*> finals(runs.size());
    std::vector<LogitLoss> found(runs.size());
    for (int32_t w = 0; w < count; ++w) {
      for (size_t i = 0; i < runs.size(); ++i)
        finals[i] = states.at(static_cast<int64_t>(i), w);
      found.assign(runs.size(), {});
      FLEXQ_RETURN_IF_ERROR(
          walk.compare(text.window(first + w), states.at(n_states - 1, w), finals, found));
      for (size_t i = 0; i < runs.size(); ++i)
        losses[i][static_cast<size_t>(first + w)] = found[i];
    }
  }
  return losses;
}

}  // namespace flexq
