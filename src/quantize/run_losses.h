// What whole precision policies lose, measured end to end on a text.
#pragma once

#include <span>
#include <vector>

#include "base/status.h"
#include "model/weight_source.h"
#include "quantize/calibration_text.h"
#include "quantize/layer_walk.h"

namespace flexq {

// A model to measure: weights, quantized or not, and the bits of every layer's inputs.
struct PrecisionRun {
  WeightSource* weights = nullptr;  // borrowed; of the unquantized source's architecture
  std::vector<LayerBits> bits;      // (n_layers)
};

// Called after each of n_steps equal steps; an error ends the measurement with it.
using StepDone = FunctionRef<Status()>;

// Steps of measure_runs(): one per window, layer and run.
int64_t run_steps(int32_t n_layers, int32_t n_windows, size_t n_runs);

// Losses against `source`, the unquantized model, [run][window]. Memory: the activations of a few
// windows for every run.
Result<std::vector<std::vector<LogitLoss>>> measure_runs(LayerWalk& walk, WeightSource& source,
                                                         const CalibrationText& text,
                                                         std::span<const PrecisionRun> runs,
                                                         StepDone step_done);

}  // namespace flexq
