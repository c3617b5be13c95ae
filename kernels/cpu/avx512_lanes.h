// Register helpers shared by the AVX-512 sources: masked loads and stores, the element types of
// matrices and caches, and the 16 lanes of dot16 (cpu_kernels.h), which are one register. Internal
// linkage, see avx512_table.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace flexq::avx512 {
namespace {

constexpr int64_t kLanes = 16;  // floats of a register

inline int64_t min_int(int64_t a, int64_t b) {
  return a < b ? a : b;
}

// The first n lanes, n >= 0; all for n >= 16.
inline __mmask16 first_lanes(int64_t n) {
  return n >= kLanes ? __mmask16{0xffff} : static_cast<__mmask16>((1u << n) - 1u);
}

// The first min(n, 16) floats, the other lanes +0. Touches no memory past them.
inline __m512 load_floats(const float* x, int64_t n) {
  return n >= kLanes ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(first_lanes(n), x);
}

inline void store_floats(float* x, int64_t n, __m512 value) {
  if (n >= kLanes) {
    _mm512_storeu_ps(x, value);
  } else {
    _mm512_mask_storeu_ps(x, first_lanes(n), value);
  }
}

// fma(a, b, sum). Not the intrinsic: g++ 12 copies its accumulator before and after each use, which
// halves the speed of the linear layers (kernels/README.md).
inline __m512 multiply_add(__m512 a, __m512 b, __m512 sum) {
  __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}

// How a stored element becomes float: load() reads 16, load_few() the first min(n, 16) and gives +0
// in the other lanes.
struct F32 {
  using Element = float;
  static __m512 load(const float* x) { return _mm512_loadu_ps(x); }
  static __m512 load_few(const float* x, int64_t n) { return load_floats(x, n); }
};
struct F16 {
  using Element = uint16_t;
  static __m512 load(const uint16_t* x) { return _mm512_cvtph_ps(load_16(x)); }
  static __m512 load_few(const uint16_t* x, int64_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), x));
  }
  static __m256i load_16(const uint16_t* x) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  }
};
struct BF16 {
  using Element = uint16_t;
  static __m512 load(const uint16_t* x) { return widen(F16::load_16(x)); }
  static __m512 load_few(const uint16_t* x, int64_t n) {
    return widen(_mm256_maskz_loadu_epi16(first_lanes(n), x));
  }
  static __m512 widen(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
};
struct I8 {
  using Element = int8_t;
  static __m512 load(const int8_t* x) {
    return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  }
  static __m512 load_few(const int8_t* x, int64_t n) {
    return widen(_mm_maskz_loadu_epi8(first_lanes(n), x));
  }
  static __m512 widen(__m128i codes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)); }
};

// The tree of dot16: l += l+8, l += l+4, l += l+2, l += l+1.
inline float reduce_lanes(__m512 lanes) {
  const __m256 eight =
      _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// The first two levels of four trees: quarter i of the result is what is left of argument i.
inline __m512 fold_4(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab =
      _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  const __m512 cd =
      _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
  return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

// Four trees: element i belongs to argument i.
inline __m128 reduce_4(__m512 a, __m512 b, __m512 c, __m512 d) {
  __m512 sums = fold_4(a, b, c, d);
  sums = _mm512_add_ps(sums, _mm512_permute_ps(sums, 0x4e));  // l += l+2
  sums = _mm512_add_ps(sums, _mm512_permute_ps(sums, 0xb1));  // l += l+1
  const __m512i quarters = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
  return _mm512_castps512_ps128(_mm512_permutexvar_ps(quarters, sums));
}

// Sixteen trees: lane i belongs to v[i].
inline __m512 reduce_16(const __m512* v) {
  // Quarter c of fold j comes from v[4c + j], so that the shuffles inside quarters end in order.
  const __m512 fold_0 = fold_4(v[0], v[4], v[8], v[12]);
  const __m512 fold_1 = fold_4(v[1], v[5], v[9], v[13]);
  const __m512 fold_2 = fold_4(v[2], v[6], v[10], v[14]);
  const __m512 fold_3 = fold_4(v[3], v[7], v[11], v[15]);
  const __m512 pair_01 = _mm512_add_ps(_mm512_shuffle_ps(fold_0, fold_1, 0x44),
                                       _mm512_shuffle_ps(fold_0, fold_1, 0xee));
  const __m512 pair_23 = _mm512_add_ps(_mm512_shuffle_ps(fold_2, fold_3, 0x44),
                                       _mm512_shuffle_ps(fold_2, fold_3, 0xee));
  return _mm512_add_ps(_mm512_shuffle_ps(pair_01, pair_23, 0x88),
                       _mm512_shuffle_ps(pair_01, pair_23, 0xdd));
}

}  // namespace
}  // namespace flexq::avx512
