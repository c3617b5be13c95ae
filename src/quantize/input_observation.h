// The inputs of every linear layer over a whole text, one layer of the model after the other.
#pragma once

#include <cstdint>

#include "device/device.h"
#include "quantize/calibration_text.h"
#include "quantize/layer_walk.h"
#include "quantize/run_losses.h"

namespace flexq {

// Where a linear takes its input: several share one.
InputPoint input_point(LinearKind kind);

// Sees the inputs of the layer that began last.
class LayerObserver : public InputObserver {
 public:
  virtual Status begin_layer(int32_t layer, const DeviceLayer& weights) = 0;
  virtual Status end_layer() = 0;
};

// Steps of observe_inputs(): one per window and layer.
int64_t input_steps(int32_t n_layers, int32_t n_windows);

// One pass over the text with unquantized inputs, the whole text at every layer, so that each is
// loaded once.
Status observe_inputs(LayerWalk& walk, WeightSource& source, const CalibrationText& text,
                      LayerObserver& observer, StepDone step_done);

}  // namespace flexq
