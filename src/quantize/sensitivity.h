// How much each linear layer asks for wide activations: what is lost when its input alone is
// quantized to few bits, the weights and all other inputs unquantized.
#pragma once

#include <vector>

#include "quantize/run_losses.h"

namespace flexq {

// Steps of measure_sensitivity(): one per window, pair of layers (perturbed, passed) and kind.
int64_t sensitivity_steps(int32_t n_layers, int32_t n_windows);

// Losses of every linear, [layer * kLinearKinds + kind]. A perturbed run joins the unquantized one
// at its layer, so that half of all layers are computed; memory: the activations of a few windows
// at every layer, and one layer's weights.
Result<std::vector<LogitLoss>> measure_sensitivity(LayerWalk& walk, WeightSource& source,
                                                   const CalibrationText& text,
                                                   int32_t activation_bits, StepDone step_done);

}  // namespace flexq
