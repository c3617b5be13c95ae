#include "quantize/dense_values.h"

#include <cstring>

#include "base/half.h"

namespace flexq {

void dense_to_float(WeightFormat format, const uint8_t* values, int64_t n, float* out) {
  if (format == WeightFormat::kF32) {
    std::memcpy(out, values, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  const auto* bits = reinterpret_cast<const uint16_t*>(values);
  if (format == WeightFormat::kF16)
    for (int64_t i = 0; i < n; ++i)
      out[i] = half_to_float(bits[i]);
  else
    for (int64_t i = 0; i < n; ++i)
      out[i] = bf16_to_float(bits[i]);
}

void float_to_half_values(const float* values, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = float_to_half(values[i]);
}

bool fits_half(float max_abs) {
  constexpr uint16_t kInfinity = 0x7c00;
  return float_to_half(max_abs) < kInfinity;
}

}  // namespace flexq
