#include "quantize/logit_statistics.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace flexq {
namespace {

// Sums run in kLanes places side by side, which vectorizes, in fp32 over kBlock values and in
// double over blocks: nothing is left of the rounding that a comparison could see.
constexpr int64_t kLanes = 16;
constexpr int64_t kBlock = 256;

// exp(x) for x <= 0, flushed to 0 below -87: as kernels/cpu/vector_math.h, without its fused steps
// and its ends, so that any compiler vectorizes it.
float exp_of_negative(float x) {
  constexpr float kRoundingShift = 0x1.8p+23f;
  const float clamped = std::max(x, -87.0f);
  const float shifted = clamped * 0x1.715476p+0f + kRoundingShift;
  const float n = shifted - kRoundingShift;
  const float r = (clamped - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  float p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float y = (p * r * r + r) + 1.0f;
  const uint32_t exponent =
      std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRoundingShift);
  return x < -87.0f ? 0.0f : y * std::bit_cast<float>((exponent + 127u) << 23);
}

// The sum of value(i) for i in [0, n).
template <typename Value>
double blocked_sum(int64_t n, Value value) {
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, n);
    float lanes[kLanes] = {};
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes)
      for (int64_t lane = 0; lane < kLanes; ++lane)
        lanes[lane] += value(i + lane);
    for (; i < end; ++i)
      lanes[0] += value(i);
    for (const float lane : lanes)
      sum += double{lane};
  }
  return sum;
}

float largest_of(const float* x, int64_t n) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, x[0]);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  for (; i < n; ++i)
    lanes[0] = std::max(lanes[0], x[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

}  // namespace

double log_sum_exp(const float* x, int64_t n, float scale) {
  const float largest = largest_of(x, n);
  const double sum =
      blocked_sum(n, [&](int64_t i) { return exp_of_negative(scale * (x[i] - largest)); });
  return double{scale} * double{largest} + std::log(sum);
}

void softmax(const float* x, int64_t n, float scale, double log_sum, float* p) {
  const auto shift = static_cast<float>(log_sum);
  for (int64_t i = 0; i < n; ++i)
    p[i] = exp_of_negative(std::min(scale * x[i] - shift, 0.0f));
}

double expected_difference(const float* p, const float* a, const float* b, int64_t n) {
  return blocked_sum(n, [&](int64_t i) { return p[i] * (a[i] - b[i]); });
}

}  // namespace flexq
