// How the elements of a weight tensor are represented, on disk and in kernels.
#pragma once

#include <cstdint>

namespace flexq {

// Quantized formats hold signed codes; weight = code * half_to_float(scale) * scale_multiplier.
enum class WeightFormat : uint8_t {
  kF32 = 0,
  kF16 = 1,
  kBF16 = 2,
  kInt6Group = 3,  // FlexQ: 6-bit codes, one fp16 scale per row and group of 128 columns
  kInt8Group = 4,  // 8-bit codes in the same groups
  kInt8Row = 5,    // 8-bit codes, one fp16 scale per row: embedding and lm_head
};
inline constexpr WeightFormat kLastWeightFormat = WeightFormat::kInt8Row;

inline constexpr int32_t kGroupSize = 128;  // the only group size of bundle format 1

constexpr bool is_quantized(WeightFormat format) {
  return format >= WeightFormat::kInt6Group;
}
constexpr bool is_grouped(WeightFormat format) {
  return format == WeightFormat::kInt6Group || format == WeightFormat::kInt8Group;
}

// Bits of one value.
constexpr int32_t weight_bits(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return 32;
    case WeightFormat::kF16:
    case WeightFormat::kBF16:
      return 16;
    case WeightFormat::kInt6Group:
      return 6;
    default:
      return 8;
  }
}

// Largest code of a quantized format; the smallest is -max - 1.
constexpr int32_t max_weight_code(WeightFormat format) {
  return (1 << (weight_bits(format) - 1)) - 1;
}

// Bytes of one element of a dense format; 1 for quantized ones (one code per byte on the way).
constexpr int64_t element_bytes(WeightFormat format) {
  return is_quantized(format) ? 1 : weight_bits(format) / 8;
}

// fp16 scales of one row of n_cols weights.
constexpr int64_t scales_per_row(WeightFormat format, int64_t n_cols) {
  if (is_grouped(format)) return n_cols / kGroupSize + (n_cols % kGroupSize != 0 ? 1 : 0);
  return is_quantized(format) ? 1 : 0;
}

}  // namespace flexq
