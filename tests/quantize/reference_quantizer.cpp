#include "quantize/reference_quantizer.h"

#include <cmath>

namespace flexq::test {

double round_to_half(double x) {
  if (x == 0) return 0;
  const int exponent = std::max(std::ilogb(x), -14);  // subnormals share the smallest exponent
  return std::ldexp(std::nearbyint(std::ldexp(x, 10 - exponent)), exponent - 10);
}

uint16_t half_bits(double value) {
  const int exponent = std::ilogb(value);
  const int mantissa = static_cast<int>(std::ldexp(value, 10 - exponent)) - 1024;
  return static_cast<uint16_t>((exponent + 15) * 1024 + mantissa);
}

ReferenceRow quantize_reference(const float* weights, int64_t n_cols, float multiplier) {
  ReferenceRow row;
  for (int64_t begin = 0; begin < n_cols; begin += 128) {
    const int64_t end = std::min(begin + 128, n_cols);
    float largest = 0;
    for (int64_t i = begin; i < end; ++i)
      largest = std::fmax(largest, std::fabs(weights[i]));
    const float scale = std::fmax(largest / 31.0f, 1e-5f);
    const double stored = std::fmax(round_to_half(scale / multiplier), std::ldexp(1.0, -14));
    row.scales.push_back(half_bits(stored));
    const float used = static_cast<float>(stored * multiplier);
    for (int64_t i = begin; i < end; ++i) {
      const float code = std::nearbyintf(weights[i] / used);
      row.codes.push_back(static_cast<int8_t>(std::fmin(std::fmax(code, -32.0f), 31.0f)));
    }
  }
  return row;
}

}  // namespace flexq::test
