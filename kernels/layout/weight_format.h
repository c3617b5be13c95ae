// How the elements of a weight tensor are represented, on disk and in kernels.
#pragma once

#include <cstdint>

namespace flexq {

enum class WeightFormat : uint8_t {
  kF32 = 0,
  kF16 = 1,
  kBF16 = 2,
  kInt6Group = 3,  // FlexQ: signed 6-bit codes, one fp16 scale per row and group of 128 columns
};

inline constexpr int32_t kGroupSize = 128;  // the only group size of bundle format 1

// Bytes of one element of a dense format; 1 for kInt6Group (one code per byte on the way).
constexpr int64_t element_bytes(WeightFormat format) {
  return format == WeightFormat::kF32 ? 4 : format == WeightFormat::kInt6Group ? 1 : 2;
}

}  // namespace flexq
