// Symmetric quantization of weights (FlexQ, arXiv:2508.04405, section 3), in groups of 128
// consecutive inputs or whole rows: what every kernel's weights are made of. With m the largest
// code of the format, 31 or 127:
//
//   scale  = max(max|w| / m, 1e-5)                          per group, IEEE division
//   stored = max(float_to_half(scale / multiplier), 2^-14)  one fp16 per group
//   used   = half_to_float(stored) * multiplier             exact: multiplier is a power of two
//   code   = clamp(round_half_even(w / used), -m - 1, m)    IEEE division
//
// One multiplier per tensor keeps small layers out of fp16's subnormal range.
//
// With a search the scale of a group is the one of kScaleCandidates fp16 values around the above
// that leaves the least squared error, the plain scale where there is no better; codes follow as
// before.
#pragma once

#include <cstdint>

#include "kernels/layout/weight_format.h"

namespace flexq {

// The largest |x| of `n` values; NaN or infinity when there is one among them.
float max_magnitude(const float* values, int64_t n);

// The scale, before it is stored, of a group whose largest weight has magnitude `max_abs`.
float group_scale(WeightFormat format, float max_abs);

// The multiplier for a tensor whose group scales lie in [min_scale, max_scale], both positive: 1
// unless the smallest would be subnormal or the largest leave [0, 2^15]. Where the range is too
// wide for both, the largest decides and the smallest are raised to 2^-14 * multiplier.
float choose_scale_multiplier(float min_scale, float max_scale);

// fp16 bit pattern of `scale` under `multiplier`: a normal number.
uint16_t store_scale(float scale, float multiplier);

// How the scale of a group is found.
enum class ScaleSearch : int32_t {
  kNone = 0,      // max|w| / m
  kError = 1,     // least sum of (w - code * scale)^2
  kWeighted = 2,  // the same, every error times the importance of its input
};
inline constexpr int32_t kScaleCandidates = 32;

// Quantizes one row of finite weights. weights: (n_cols); codes: (n_cols); scales: (scales_per_row)
// fp16 bit patterns. The last group may be shorter. importance: (n_cols) weights of the squared
// errors under kWeighted, 0 or more, finite; null: all alike.
void quantize_weight_row(WeightFormat format, const float* weights, int64_t n_cols,
                         float multiplier, ScaleSearch search, const float* importance,
                         int8_t* codes, uint16_t* scales);

}  // namespace flexq
