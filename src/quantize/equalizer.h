// Which channels of a model to equalize, by what linear layers read on a text.
#pragma once

#include <cstdint>
#include <span>

#include "quantize/equalized_source.h"
#include "quantize/input_observation.h"

namespace flexq {

// (n_layers), for layers whose weights are quantized to weight_bits (6 or 8) and whose inputs to
// `bits` (n_layers). Where query heads share a value head, what o_proj reads is left alone: the
// factors of their channels would be tied. One pass over the text, of input_steps(); memory: the
// matrices that share an input, in fp32, and some tokens of a layer's inputs.
Result<Equalization> find_equalization(LayerWalk& walk, WeightSource& source,
                                       const CalibrationText& text, std::span<const LayerBits> bits,
                                       int32_t weight_bits, ThreadPool& pool, StepDone step_done);

// Tokens of the text, evenly spread, whose inputs are looked at: so many, and less than twice.
inline constexpr int64_t kEqualizationTokens = 512;

}  // namespace flexq
