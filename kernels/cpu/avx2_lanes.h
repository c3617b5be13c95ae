// Register helpers shared by the AVX2 sources: ragged loads and stores, the element types of dense
// matrices, and the 16 lanes of dot16 (cpu_kernels.h) as a pair of registers. Internal linkage, see
// avx2_table.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace flexq::avx2 {
namespace {

constexpr int64_t kFloats = 8;  // floats of a register
constexpr int64_t kLanes = 16;  // lanes of dot16

inline int64_t min_int(int64_t a, int64_t b) {
  return a < b ? a : b;
}

// All ones in the first n of 8 lanes; n may be negative or above 8.
inline __m256i first_lanes(int64_t n) {
  const int32_t count = static_cast<int32_t>(n < 0 ? 0 : min_int(n, kFloats));
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// The first min(n, 8) floats, the other lanes +0. Touches no memory past them.
inline __m256 load_floats(const float* x, int64_t n) {
  return n >= kFloats ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, first_lanes(n));
}

inline void store_floats(float* x, int64_t n, __m256 value) {
  if (n >= kFloats) {
    _mm256_storeu_ps(x, value);
  } else {
    _mm256_maskstore_ps(x, first_lanes(n), value);
  }
}

// The first n < 8 16-bit elements, the others zero. AVX2 has no 16-bit masked load.
inline __m128i load_few_u16(const uint16_t* x, int64_t n) {
  alignas(16) uint16_t padded[8] = {};
  for (int64_t i = 0; i < n; ++i)
    padded[i] = x[i];
  return _mm_load_si128(reinterpret_cast<const __m128i*>(padded));
}

inline __m128i load_u16(const uint16_t* x) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
}

inline __m256 widen_bf16(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// How a stored element becomes float: load() reads 8, load_few() the first min(max(n, 0), 8) and
// gives +0 in the other lanes.
struct F32 {
  using Element = float;
  static __m256 load(const float* x) { return _mm256_loadu_ps(x); }
  static __m256 load_few(const float* x, int64_t n) { return load_floats(x, n); }
};
struct F16 {
  using Element = uint16_t;
  static __m256 load(const uint16_t* x) { return _mm256_cvtph_ps(load_u16(x)); }
  static __m256 load_few(const uint16_t* x, int64_t n) {
    return n >= kFloats ? load(x) : _mm256_cvtph_ps(load_few_u16(x, n));
  }
};
struct BF16 {
  using Element = uint16_t;
  static __m256 load(const uint16_t* x) { return widen_bf16(load_u16(x)); }
  static __m256 load_few(const uint16_t* x, int64_t n) {
    return n >= kFloats ? load(x) : widen_bf16(load_few_u16(x, n));
  }
};

struct I8 {
  using Element = int8_t;
  static __m256 load(const int8_t* x) {
    return widen(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x)));
  }
  static __m256 load_few(const int8_t* x, int64_t n) {
    if (n >= kFloats) return load(x);
    alignas(16) int8_t padded[16] = {};
    for (int64_t i = 0; i < n; ++i)
      padded[i] = x[i];
    return widen(_mm_load_si128(reinterpret_cast<const __m128i*>(padded)));
  }
  static __m256 widen(__m128i codes) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)); }
};

// The first two levels of the tree of dot16: l += l+8, l += l+4.
inline __m128 fold_to_4(__m256 low, __m256 high) {
  const __m256 sum = _mm256_add_ps(low, high);
  return _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
}

// The whole tree. low: lanes 0-7, high: lanes 8-15.
inline float reduce_lanes(__m256 low, __m256 high) {
  const __m128 four = fold_to_4(low, high);
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// The last two levels of four trees at once: element i of the result belongs to argument i.
inline __m128 reduce_4x4(__m128 a, __m128 b, __m128 c, __m128 d) {
  _MM_TRANSPOSE4_PS(a, b, c, d);  // a: lane 0 of all four, b: lane 1, ..
  return _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d));
}

}  // namespace
}  // namespace flexq::avx2
