// Unpacking a quad of W6 weights (kernels/layout/w6_layout.h) in AVX2 registers. Internal linkage,
// see avx2_table.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/layout/w6_layout.h"

namespace flexq::avx2 {
namespace {

constexpr int64_t kHalfPlaneBytes = 32;  // 8 rows of a plane: one register

// w6::n_groups, here with internal linkage.
inline int64_t group_count(int64_t n_cols) {
  return (n_cols + w6::kGroupSize - 1) / w6::kGroupSize;
}

// Four steps of 4 columns for 8 rows: row r in 32-bit lane r, column c of the step in its byte c.
struct QuadCodes {
  __m256i step[4];  // u = q + 32, unsigned bytes 0..63
};

// quad: a quad of a unit, plus kHalfPlaneBytes for the rows 8-15.
inline QuadCodes unpack_quad(const uint8_t* quad) {
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(quad));
  const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(quad + w6::kPlaneBytes));
  const __m256i c =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(quad + 2 * w6::kPlaneBytes));
  const __m256i low_6 = _mm256_set1_epi8(0x3f);
  // 16-bit shifts drag bits of the neighbouring byte in; the masks drop them.
  const __m256i top = _mm256_and_si256(_mm256_srli_epi16(a, 2), _mm256_set1_epi8(0x30));
  const __m256i middle = _mm256_and_si256(_mm256_srli_epi16(b, 4), _mm256_set1_epi8(0x0c));
  const __m256i bottom = _mm256_and_si256(_mm256_srli_epi16(c, 6), _mm256_set1_epi8(0x03));
  return {{_mm256_and_si256(a, low_6), _mm256_and_si256(b, low_6), _mm256_and_si256(c, low_6),
           _mm256_or_si256(_mm256_or_si256(top, middle), bottom)}};
}

// sw[n,g] of rows 0-7 (half 0) or 8-15 (half 1) of a unit; scales: the 16 of the unit.
inline __m256 load_unit_scales(const uint16_t* scales, int64_t half, __m256 multiplier) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + half * 8));
  return _mm256_mul_ps(_mm256_cvtph_ps(bits), multiplier);
}

}  // namespace
}  // namespace flexq::avx2
