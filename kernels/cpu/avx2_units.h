// The two weight formats as AVX2 sources see them: quads of 16 columns whose steps of 4 columns
// come out as unsigned bytes u = q + kOffset. Internal linkage, see avx2_table.h.
#pragma once

#include "kernels/cpu/avx2_w6_unit.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/layout/w8_layout.h"

namespace flexq::avx2 {
namespace {

struct W6Unit {
  using Packed = PackedW6;
  static constexpr int64_t kBytes = w6::kUnitBytes;
  static constexpr int64_t kQuadBytes = w6::kQuadBytes;
  static constexpr int32_t kOffset = 32;
  // quad: a quad of a unit, plus kHalfPlaneBytes for the rows 8-15.
  static QuadCodes load_quad(const uint8_t* quad) { return unpack_quad(quad); }
};

struct W8Unit {
  using Packed = PackedW8;
  static constexpr int64_t kBytes = w8::kUnitBytes;
  static constexpr int64_t kQuadBytes = 4 * w8::kStepBytes;
  static constexpr int32_t kOffset = 128;
  static QuadCodes load_quad(const uint8_t* quad) {
    QuadCodes u;
    for (int step = 0; step < 4; ++step)
      u.step[step] =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(quad + step * w8::kStepBytes));
    return u;
  }
};

}  // namespace
}  // namespace flexq::avx2
