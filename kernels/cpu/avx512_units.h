// The two weight formats as AVX-512 sources see them: quads of 16 columns whose steps of 4 columns
// come out as unsigned bytes u = q + kOffset, row r in 32-bit lane r. Internal linkage, see
// avx512_table.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/layout/w6_layout.h"
#include "kernels/layout/w8_layout.h"

namespace flexq::avx512 {
namespace {

constexpr int64_t kLineBytes = 64;

// w6::n_groups, here with internal linkage.
inline int64_t group_count(int64_t n_cols) {
  return (n_cols + w6::kGroupSize - 1) / w6::kGroupSize;
}

inline __m512i load_line(const uint8_t* line) {
  return _mm512_loadu_si512(line);
}

struct QuadCodes {
  __m512i step[4];
};

struct W6Unit {
  using Packed = PackedW6;
  static constexpr bool kPacked = true;
  static constexpr int64_t kBytes = w6::kUnitBytes;
  static constexpr int64_t kQuadBytes = w6::kQuadBytes;
  static constexpr int32_t kOffset = 32;

  // 9 instructions for 4 registers.
  static QuadCodes load_quad(const uint8_t* quad) {
    const __m512i a = load_line(quad);
    const __m512i b = load_line(quad + w6::kPlaneBytes);
    const __m512i c = load_line(quad + 2 * w6::kPlaneBytes);
    const __m512i low_6 = _mm512_set1_epi8(0x3f);
    constexpr int kOrAnd = 0xf8;  // vpternlog: first | (second & third)
    // 16-bit shifts drag bits of the neighbouring byte in; the masks drop them.
    __m512i d = _mm512_and_si512(_mm512_srli_epi16(a, 2), _mm512_set1_epi8(0x30));
    d = _mm512_ternarylogic_epi32(d, _mm512_srli_epi16(b, 4), _mm512_set1_epi8(0x0c), kOrAnd);
    d = _mm512_ternarylogic_epi32(d, _mm512_srli_epi16(c, 6), _mm512_set1_epi8(0x03), kOrAnd);
    return {
        {_mm512_and_si512(a, low_6), _mm512_and_si512(b, low_6), _mm512_and_si512(c, low_6), d}};
  }
};

struct W8Unit {
  using Packed = PackedW8;
  static constexpr bool kPacked = false;
  static constexpr int64_t kBytes = w8::kUnitBytes;
  static constexpr int64_t kQuadBytes = 4 * w8::kStepBytes;
  static constexpr int32_t kOffset = 128;

  static QuadCodes load_quad(const uint8_t* quad) {
    return {{load_line(quad), load_line(quad + w8::kStepBytes),
             load_line(quad + 2 * w8::kStepBytes), load_line(quad + 3 * w8::kStepBytes)}};
  }
};

// Asks for weights ahead of the quad being read: hardware prefetchers stop at every 4 KB page. Near
// lines go to L1 and far ones to L2 (kernels/README.md has the distances tried).
template <typename Unit, int64_t kFarBytes = 6144>
inline void prefetch_quad(const uint8_t* quad) {
  constexpr int64_t kNearBytes = 1024;
  for (int64_t line = 0; line < Unit::kQuadBytes; line += kLineBytes) {
    _mm_prefetch(quad + line + kNearBytes, _MM_HINT_T0);
    _mm_prefetch(quad + line + kFarBytes, _MM_HINT_T1);
  }
}

// sw[n,g] of the 16 rows of a unit.
inline __m512 load_unit_scales(const uint16_t* scales, __m512 multiplier) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales));
  return _mm512_mul_ps(_mm512_cvtph_ps(bits), multiplier);
}

}  // namespace
}  // namespace flexq::avx512
