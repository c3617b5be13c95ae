// Conversions of unquantized weights between the formats of checkpoints and bundles.
#pragma once

#include <cstdint>

#include "model/weight_source.h"

namespace flexq {

// `n` values of a dense format to fp32, exactly. values: aligned to the format's element.
void dense_to_float(WeightFormat format, const uint8_t* values, int64_t n, float* out);

// Rounds to nearest even. Values must be finite in fp16: see fits_half().
void float_to_half_values(const float* values, int64_t n, uint16_t* out);

// Whether a tensor whose largest magnitude is `max_abs` stays finite in fp16.
bool fits_half(float max_abs);

}  // namespace flexq
