#include "quantize/group_quantizer.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/half.h"

namespace flexq {
namespace {

constexpr float kMinScale = 1e-5f;
constexpr float kMinNormalHalf = 0x1p-14f;
constexpr uint16_t kMinNormalHalfBits = 0x0400;
constexpr float kMaxStoredScale = 0x1p15f;

// Adding 1.5 * 2^23 leaves no fraction bits: the addition itself rounds to nearest even. Exact for
// |x| <= 2^22, and unlike rint() it vectorizes on every x86-64.
float round_half_even(float x) {
  constexpr float kShift = 0x1.8p23f;
  return (x + kShift) - kShift;
}

// The sum of importance * (w - code * scale)^2 over a group. 16 sums side by side, which
// vectorize, then a tree: an order that no compiler setting changes.
double squared_error(const float* weights, const float* importance, int64_t n, float scale,
                     float max_code) {
  constexpr int64_t kLanes = 16;
  const float inverse = 1.0f / scale;
  float lanes[kLanes] = {};
  for (int64_t begin = 0; begin < n; begin += kLanes) {
    const int64_t count = std::min(kLanes, n - begin);
    for (int64_t i = 0; i < count; ++i) {
      const float w = weights[begin + i];
      const float code = std::min(std::max(w * inverse, -max_code - 1.0f), max_code);
      const float error = w - round_half_even(code) * scale;
      const float part = error * error;
      lanes[i] += importance != nullptr ? part * importance[begin + i] : part;
    }
  }
  double sum = 0;
  for (const float lane : lanes)
    sum += double{lane};
  return sum;
}

// The stored scale of a group under a search. `plain`: the one without.
uint16_t search_scale(const float* weights, const float* importance, int64_t n, uint16_t plain,
                      float multiplier, float max_code) {
  // Smaller scales clip the largest weights and divide all others more finely: at 6 bits the best
  // lies within these bounds for all but a handful of groups of real models.
  constexpr float kSmallest = 0.80f;
  constexpr float kLargest = 1.04f;
  const float center = half_to_float(plain);
  uint16_t best = plain;
  double least = squared_error(weights, importance, n, center * multiplier, max_code);
  for (int32_t i = 0; i < kScaleCandidates; ++i) {
    const float ratio = kSmallest + (kLargest - kSmallest) * static_cast<float>(i) /
                                        static_cast<float>(kScaleCandidates - 1);
    const uint16_t candidate = store_scale(center * ratio, 1.0f);
    const double error =
        squared_error(weights, importance, n, half_to_float(candidate) * multiplier, max_code);
    if (error >= least) continue;
    least = error;
    best = candidate;
  }
  return best;
}

}  // namespace

float max_magnitude(const float* values, int64_t n) {
  // Without their sign floats order like their bit patterns, NaN last. Integer maxima vectorize;
  // those of floats may not, and would lose a NaN.
  int32_t max_bits = 0;
  for (int64_t i = 0; i < n; ++i)
    max_bits = std::max(max_bits, std::bit_cast<int32_t>(values[i]) & 0x7fffffff);
  return std::bit_cast<float>(max_bits);
}

float group_scale(WeightFormat format, float max_abs) {
  return std::max(max_abs / static_cast<float>(max_weight_code(format)), kMinScale);
}

float choose_scale_multiplier(float min_scale, float max_scale) {
  float multiplier = 1.0f;
  if (min_scale < kMinNormalHalf) multiplier = std::ldexp(1.0f, std::ilogb(min_scale) + 14);
  if (max_scale / multiplier > kMaxStoredScale)
    multiplier = std::ldexp(1.0f, std::ilogb(max_scale) - 14);
  return multiplier;
}

uint16_t store_scale(float scale, float multiplier) {
  return std::max(float_to_half(scale / multiplier), kMinNormalHalfBits);
}

void quantize_weight_row(WeightFormat format, const float* weights, int64_t n_cols,
                         float multiplier, ScaleSearch search, const float* importance,
                         int8_t* codes, uint16_t* scales) {
  const auto max_code = static_cast<float>(max_weight_code(format));
  const int64_t group_cols = is_grouped(format) ? kGroupSize : n_cols;
  for (int64_t begin = 0; begin < n_cols; begin += group_cols) {
    const int64_t n = std::min(group_cols, n_cols - begin);
    const float* group = weights + begin;
    uint16_t stored = store_scale(group_scale(format, max_magnitude(group, n)), multiplier);
    if (search != ScaleSearch::kNone) {
      const bool weighted = search == ScaleSearch::kWeighted && importance != nullptr;
      stored = search_scale(group, weighted ? importance + begin : nullptr, n, stored, multiplier,
                            max_code);
    }
    const float used = half_to_float(stored) * multiplier;
    *scales++ = stored;
    for (int64_t i = 0; i < n; ++i) {
      // Clamping before rounding gives the same integers and keeps the rounding exact.
      const float code = std::min(std::max(group[i] / used, -max_code - 1.0f), max_code);
      codes[begin + i] = static_cast<int8_t>(round_half_even(code));
    }
  }
}

}  // namespace flexq
