// How sure of itself a model may be.
#pragma once

#include "quantize/run_losses.h"

namespace flexq {

// What logits have to be multiplied by for the unquantized model to predict the text best, between
// 0.5 and 1.5. One pass over the text, as many steps as measure_inputs().
Result<float> fit_inverse_temperature(LayerWalk& walk, WeightSource& source,
                                      const CalibrationText& text, StepDone step_done);

}  // namespace flexq
