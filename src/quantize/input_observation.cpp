#include "quantize/input_observation.h"

#include <memory>

namespace flexq {
namespace {

// Takes the observer away again.
class Observing {
 public:
  Observing(Executor& executor, InputObserver& observer) : executor_(executor) {
    executor_.observe_inputs(&observer);
  }
  ~Observing() { executor_.observe_inputs(nullptr); }
  Observing(const Observing&) = delete;
  Observing& operator=(const Observing&) = delete;

 private:
  Executor& executor_;
};

}  // namespace

InputPoint input_point(LinearKind kind) {
  switch (kind) {
    case LinearKind::kO:
      return InputPoint::kAttentionOut;
    case LinearKind::kGate:
    case LinearKind::kUp:
      return InputPoint::kFfn;
    case LinearKind::kDown:
      return InputPoint::kFfnOut;
    default:
      return InputPoint::kAttention;
  }
}

int64_t input_steps(int32_t n_layers, int32_t n_windows) {
  return int64_t{n_layers} * n_windows;
}

Status observe_inputs(LayerWalk& walk, WeightSource& source, const CalibrationText& text,
                      LayerObserver& observer, StepDone step_done) {
  const Observing observing(walk.executor(), observer);
  FLEXQ_ASSIGN_OR_RETURN(
      HostBuffer states,
      HostBuffer::allocate(walk.state_floats() * text.n_windows() * int64_t{sizeof(float)},
                           "calibration activations"));
  const auto state = [&](int32_t window) {
    return reinterpret_cast<float*>(states.data()) + window * walk.state_floats();
  };
  for (int32_t w = 0; w < text.n_windows(); ++w)
    FLEXQ_RETURN_IF_ERROR(walk.embed(text.window(w), state(w)));
  for (int32_t layer = 0; layer < source.config().n_layers; ++layer) {
    FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<LlamaModel> model, walk.load_layer(source, layer));
    FLEXQ_RETURN_IF_ERROR(observer.begin_layer(layer, model->layers().front()));
    for (int32_t w = 0; w < text.n_windows(); ++w) {
      FLEXQ_RETURN_IF_ERROR(walk.run_layer(*model, kUnquantizedInputs, state(w)));
      FLEXQ_RETURN_IF_ERROR(step_done());
    }
    FLEXQ_RETURN_IF_ERROR(observer.end_layer());
  }
  return {};
}

}  // namespace flexq
