// What the inputs of linear layers look like in the unquantized model, and what quantizing one of
// them does to the layer's own output.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "device/device.h"
#include "quantize/run_losses.h"

namespace flexq {

// The inputs that some linears of a layer share, over all tokens of a text.
struct InputRange {
  std::vector<float> group_max;      // largest |x| of every group of 128 inputs
  std::vector<float> second_moment;  // (width) mean of x^2
};

struct LayerInputs {
  std::array<InputRange, kInputPoints> points;  // by InputPoint
  // By LinearKind: |W quant6(x) - W x|^2 / |W x|^2, both summed over the text; 0 for a layer whose
  // outputs are all zero.
  std::array<double, kLinearKinds> output_error{};

  const InputRange& of(LinearKind kind) const;
};

// (n_layers). One pass over the text, of input_steps().
Result<std::vector<LayerInputs>> measure_inputs(LayerWalk& walk, WeightSource& source,
                                                const CalibrationText& text, ThreadPool& pool,
                                                StepDone step_done);

}  // namespace flexq
