// Our exponential: one sequence of IEEE operations, in a scalar form and (where the including file
// is compiled for it) AVX2 and AVX-512 forms, so that every instruction set gives the same bits.
// libm's expf is not used because its result depends on the library's version.
//
//   n = round(x / ln 2), r = x - n ln 2 in two parts (Cody and Waite), |r| <= 0.347,
//   exp(r) = 1 + (r + r^2 P(r)) with P of degree 5 (the minimax coefficients of Cephes expf),
//   times 2^n in two factors, so that subnormal results are rounded once and large ones overflow.
//
// Relative error below 1.2e-7 for normal results; exp(-inf) = 0, above 88.73 infinity, NaN stays.
//
// Everything here has internal linkage: a file compiled for one of them must not lend its copy of
// an inline function to one that has to run on any processor.
#pragma once

#include <bit>
#include <cstdint>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace flexq {
namespace {

constexpr float kExpMin = -104.0f;  // exp() is below half the smallest subnormal
constexpr float kExpMax = 89.0f;    // exp() is above the largest float
constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kLn2High = 0x1.62e4p-1f;  // 15 bits: n * kLn2High is exact
constexpr float kLn2Low = 0x1.7f7d1cp-20f;
// 1.5 * 2^23: adding it leaves the nearest integer in the low mantissa bits.
constexpr float kRoundingShift = 0x1.8p+23f;
constexpr float kExpP5 = 1.9875691500e-4f;
constexpr float kExpP4 = 1.3981999507e-3f;
constexpr float kExpP3 = 8.3334519073e-3f;
constexpr float kExpP2 = 4.1665795894e-2f;
constexpr float kExpP1 = 1.6666665459e-1f;
constexpr float kExpP0 = 5.0000001201e-1f;

// 2^n for n in [-126, 127]; any bits otherwise, which only happens to NaN.
inline float power_of_two(int32_t n) {
  return std::bit_cast<float>((static_cast<uint32_t>(n) + 127u) << 23);
}

inline float expf16(float x) {
  x = kExpMin > x ? kExpMin : x;  // a comparison with NaN is false: NaN passes
  x = kExpMax < x ? kExpMax : x;
  const float shifted = __builtin_fmaf(x, kLog2E, kRoundingShift);
  const float n = shifted - kRoundingShift;
  float r = __builtin_fmaf(n, -kLn2High, x);
  r = __builtin_fmaf(n, -kLn2Low, r);
  float p = __builtin_fmaf(kExpP5, r, kExpP4);
  p = __builtin_fmaf(p, r, kExpP3);
  p = __builtin_fmaf(p, r, kExpP2);
  p = __builtin_fmaf(p, r, kExpP1);
  p = __builtin_fmaf(p, r, kExpP0);
  const float y = __builtin_fmaf(p, r * r, r) + 1.0f;
  const int32_t exponent = static_cast<int32_t>(std::bit_cast<uint32_t>(shifted) -
                                                std::bit_cast<uint32_t>(kRoundingShift));
  const int32_t half = exponent >> 1;
  const int32_t rest =
      static_cast<int32_t>(static_cast<uint32_t>(exponent) - static_cast<uint32_t>(half));
  return (y * power_of_two(half)) * power_of_two(rest);
}

#ifdef __AVX2__
inline __m256 power_of_two(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

inline __m256 expf16(__m256 x) {
  // max and min give their second operand when one is NaN.
  x = _mm256_max_ps(_mm256_set1_ps(kExpMin), x);
  x = _mm256_min_ps(_mm256_set1_ps(kExpMax), x);
  const __m256 rounding_shift = _mm256_set1_ps(kRoundingShift);
  const __m256 shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(kLog2E), rounding_shift);
  const __m256 n = _mm256_sub_ps(shifted, rounding_shift);
  __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-kLn2High), x);
  r = _mm256_fmadd_ps(n, _mm256_set1_ps(-kLn2Low), r);
  __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(kExpP5), r, _mm256_set1_ps(kExpP4));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpP3));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpP2));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpP1));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpP0));
  const __m256 y = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
  const __m256i exponent =
      _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(rounding_shift));
  const __m256i half = _mm256_srai_epi32(exponent, 1);
  const __m256i rest = _mm256_sub_epi32(exponent, half);
  return _mm256_mul_ps(_mm256_mul_ps(y, power_of_two(half)), power_of_two(rest));
}
#endif

#ifdef __AVX512F__
inline __m512 power_of_two(__m512i n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}

inline __m512 expf16(__m512 x) {
  // max and min give their second operand when one is NaN.
  x = _mm512_max_ps(_mm512_set1_ps(kExpMin), x);
  x = _mm512_min_ps(_mm512_set1_ps(kExpMax), x);
  const __m512 rounding_shift = _mm512_set1_ps(kRoundingShift);
  const __m512 shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(kLog2E), rounding_shift);
  const __m512 n = _mm512_sub_ps(shifted, rounding_shift);
  __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-kLn2High), x);
  r = _mm512_fmadd_ps(n, _mm512_set1_ps(-kLn2Low), r);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(kExpP5), r, _mm512_set1_ps(kExpP4));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpP3));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpP2));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpP1));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpP0));
  const __m512 y = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
  const __m512i exponent =
      _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_castps_si512(rounding_shift));
  const __m512i half = _mm512_srai_epi32(exponent, 1);
  const __m512i rest = _mm512_sub_epi32(exponent, half);
  return _mm512_mul_ps(_mm512_mul_ps(y, power_of_two(half)), power_of_two(rest));
}
#endif

}  // namespace
}  // namespace flexq
