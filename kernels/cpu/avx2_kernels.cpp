// The AVX2 table and its short kernels: norm, quantization, activation, rotation, conversions.
#include <immintrin.h>

#include "kernels/cpu/avx2_lanes.h"
#include "kernels/cpu/avx2_table.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/layout/w6_layout.h"

namespace flexq::avx2 {
namespace {

using w6::kGroupSize;

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y) {
  __m256 low = _mm256_setzero_ps();
  __m256 high = _mm256_setzero_ps();
  for (int64_t k = 0; k < n; k += kLanes) {
    const int64_t left = n - k;
    const __m256 x_low = load_floats(x + k, left);
    const __m256 x_high = load_floats(x + k + min_int(left, kFloats), left - kFloats);
    low = _mm256_fmadd_ps(x_low, x_low, low);
    high = _mm256_fmadd_ps(x_high, x_high, high);
  }
  const float mean_square = reduce_lanes(low, high) / static_cast<float>(n);
  const float root = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean_square + eps)));
  // Infinity minus itself is NaN: without it an overflow would make r, and every y, a quiet 0.
  const __m256 r = _mm256_set1_ps(1.0f / root + (mean_square - mean_square));
  for (int64_t i = 0; i < n; i += kFloats) {
    const __m256 scaled = _mm256_mul_ps(load_floats(x + i, n - i), r);
    store_floats(y + i, n - i, _mm256_mul_ps(scaled, load_floats(weight + i, n - i)));
  }
}

int32_t horizontal_max(__m256i x) {
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtsi128_si32(m);
}

int32_t horizontal_sum(__m256i x) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtsi128_si32(s);
}

// max(amax / code_max, 1e-5f), the scale of a group or row.
inline float symmetric_scale(int32_t amax_bits, int32_t code_max) {
  const float scale =
      _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(amax_bits))) / static_cast<float>(code_max);
  return scale < 1e-5f ? 1e-5f : scale;
}

// round_half_even(x / scale) clamped to [code_min, code_max], 8 values.
inline __m256i quantize_8(const float* x, __m256 scale, __m256i code_min, __m256i code_max) {
  const __m256i code = _mm256_cvtps_epi32(_mm256_div_ps(_mm256_loadu_ps(x), scale));
  return _mm256_min_epi32(_mm256_max_epi32(code, code_min), code_max);
}

// 32 values to codes; total: per lane the sum of four of them.
inline void quantize_32(const float* x, __m256 scale, __m256i code_min, __m256i code_max,
                        int8_t* codes, __m256i* total) {
  // The two packs work inside 128-bit halves; this puts their 4-byte pieces back in order.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i a = quantize_8(x, scale, code_min, code_max);
  const __m256i b = quantize_8(x + 8, scale, code_min, code_max);
  const __m256i c = quantize_8(x + 16, scale, code_min, code_max);
  const __m256i d = quantize_8(x + 24, scale, code_min, code_max);
  *total =
      _mm256_add_epi32(*total, _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d)));
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), _mm256_permutevar8x32_epi32(bytes, order));
}

// A full group of 128 values.
void quantize_group(const float* x, int32_t code_max, int8_t* codes, float* scale, int32_t* sum) {
  // Bit patterns of absolute values order like the values, with infinity and NaN above all.
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i amax = _mm256_setzero_si256();
  for (int64_t k = 0; k < kGroupSize; k += kFloats) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + k));
    amax = _mm256_max_epi32(amax, _mm256_and_si256(bits, magnitude));
  }
  const int32_t amax_bits = horizontal_max(amax);
  if (amax_bits >= 0x7f800000) {
    for (int64_t k = 0; k < kGroupSize; k += 32)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + k), _mm256_setzero_si256());
    *scale = __builtin_nanf("");
    *sum = 0;
    return;
  }
  *scale = symmetric_scale(amax_bits, code_max);
  const __m256 group_scale = _mm256_set1_ps(*scale);
  const __m256i highest = _mm256_set1_epi32(code_max);
  const __m256i lowest = _mm256_set1_epi32(-code_max - 1);
  __m256i total = _mm256_setzero_si256();
  for (int64_t k = 0; k < kGroupSize; k += 32)
    quantize_32(x + k, group_scale, lowest, highest, codes + k, &total);
  *sum = horizontal_sum(total);
}

void quantize_row(const float* x, int64_t n_cols, int32_t bits, int8_t* codes, float* scales,
                  int32_t* sums) {
  const int32_t code_max = (1 << (bits - 1)) - 1;
  const int64_t full_groups = n_cols / kGroupSize;
  for (int64_t g = 0; g < full_groups; ++g)
    quantize_group(x + g * kGroupSize, code_max, codes + g * kGroupSize, scales + g, sums + g);
  const int64_t left = n_cols % kGroupSize;
  if (left == 0) return;
  // Zeros change neither the maximum nor the sum, and their codes are the padding.
  alignas(32) float padded[kGroupSize] = {};
  const int64_t first = full_groups * kGroupSize;
  for (int64_t k = 0; k < left; k += kFloats)
    _mm256_store_ps(padded + k, load_floats(x + first + k, left - k));
  quantize_group(padded, code_max, codes + first, scales + full_groups, sums + full_groups);
}

void quantize_kv_row(const float* x, int64_t n, int8_t* codes, uint16_t* scale) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i amax = _mm256_setzero_si256();
  for (int64_t k = 0; k < n; k += kFloats) {
    const __m256i bits = _mm256_castps_si256(load_floats(x + k, n - k));
    amax = _mm256_max_epi32(amax, _mm256_and_si256(bits, magnitude));
  }
  const int32_t amax_bits = horizontal_max(amax);
  if (amax_bits >= 0x7f800000) {
    for (int64_t k = 0; k < n; ++k)
      codes[k] = 0;
    *scale = 0x7e00;  // the quiet NaN of float_to_half
    return;
  }
  const __m128i stored =
      _mm_cvtps_ph(_mm_set_ss(symmetric_scale(amax_bits, 127)), _MM_FROUND_TO_NEAREST_INT);
  *scale = static_cast<uint16_t>(_mm_extract_epi16(stored, 0));
  const __m256 row_scale = _mm256_broadcastss_ps(_mm_cvtph_ps(stored));
  const __m256i highest = _mm256_set1_epi32(127);
  const __m256i lowest = _mm256_set1_epi32(-127);
  __m256i unused_total = _mm256_setzero_si256();
  int64_t k = 0;
  for (; k + 32 <= n; k += 32)
    quantize_32(x + k, row_scale, lowest, highest, codes + k, &unused_total);
  if (k == n) return;
  alignas(32) float padded[32] = {};
  alignas(32) int8_t padded_codes[32];
  for (int64_t j = k; j < n; ++j)
    padded[j - k] = x[j];
  quantize_32(padded, row_scale, lowest, highest, padded_codes, &unused_total);
  for (int64_t j = k; j < n; ++j)
    codes[j] = padded_codes[j - k];
}

void silu_mul(const float* gate, const float* up, int64_t n, float* out) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const __m256 one = _mm256_set1_ps(1.0f);
  for (int64_t i = 0; i < n; i += kFloats) {
    const __m256 g = load_floats(gate + i, n - i);
    const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(one, expf16(_mm256_xor_ps(g, sign))));
    store_floats(out + i, n - i, _mm256_mul_ps(silu, load_floats(up + i, n - i)));
  }
}

void rope(float* x, const float* cos, const float* sin, int64_t n_heads, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < n_heads; ++head) {
    float* first = x + head * head_dim;
    float* second = first + half;
    for (int64_t i = 0; i < half; i += kFloats) {
      const int64_t left = half - i;
      const __m256 a = load_floats(first + i, left);
      const __m256 b = load_floats(second + i, left);
      const __m256 c = load_floats(cos + i, left);
      const __m256 s = load_floats(sin + i, left);
      store_floats(first + i, left, _mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s)));
      store_floats(second + i, left, _mm256_add_ps(_mm256_mul_ps(b, c), _mm256_mul_ps(a, s)));
    }
  }
}

// The bit patterns of base/half.h: a NaN becomes the quiet NaN of its sign, without its payload.
inline __m128i to_half(__m256 x) {
  const __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f));
  const __m256 quiet_nan = _mm256_or_ps(sign, _mm256_set1_ps(__builtin_nanf("")));
  const __m256 is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  return _mm256_cvtps_ph(_mm256_blendv_ps(x, quiet_nan, is_nan), _MM_FROUND_TO_NEAREST_INT);
}

void float_to_half(const float* x, int64_t n, uint16_t* out) {
  int64_t i = 0;
  for (; i + kFloats <= n; i += kFloats)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), to_half(_mm256_loadu_ps(x + i)));
  if (i < n) {
    alignas(16) uint16_t halves[kFloats];
    _mm_store_si128(reinterpret_cast<__m128i*>(halves), to_half(load_floats(x + i, n - i)));
    for (int64_t j = 0; i + j < n; ++j)
      out[i + j] = halves[j];
  }
}

void half_to_float(const uint16_t* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += kFloats)
    store_floats(out + i, n - i, F16::load_few(x + i, n - i));
}

void bf16_to_float(const uint16_t* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += kFloats)
    store_floats(out + i, n - i, BF16::load_few(x + i, n - i));
}

void add(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kFloats)
    store_floats(x + i, n - i, _mm256_add_ps(load_floats(x + i, n - i), load_floats(y + i, n - i)));
}

}  // namespace

constinit const CpuKernels kTable = {
    .name = "avx2",
    .rms_norm = rms_norm,
    .quantize_row = quantize_row,
    .linear_w6_int8 = linear_w6_int8,
    .linear_w6_f32 = linear_w6_f32,
    .linear_w8_int8 = linear_w8_int8,
    .linear_w8_f32 = linear_w8_f32,
    .linear_i8_rows = linear_i8_rows,
    .quantize_kv_row = quantize_kv_row,
    .linear_dense = linear_dense,
    .silu_mul = silu_mul,
    .rope = rope,
    .attention = attention,
    .float_to_half = float_to_half,
    .half_to_float = half_to_float,
    .bf16_to_float = bf16_to_float,
    .add = add,
};

}  // namespace flexq::avx2
