// The AVX-512 table and its short kernels: norm, quantization, activation, rotation, conversions.
#include <immintrin.h>

#include "kernels/cpu/avx512_lanes.h"
#include "kernels/cpu/avx512_table.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/layout/w6_layout.h"

namespace flexq::avx512 {
namespace {

using w6::kGroupSize;

constexpr int32_t kInfinityBits = 0x7f800000;

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y) {
  __m512 squares = _mm512_setzero_ps();
  for (int64_t k = 0; k < n; k += kLanes) {
    const __m512 values = load_floats(x + k, n - k);
    squares = _mm512_fmadd_ps(values, values, squares);
  }
  const float mean_square = reduce_lanes(squares) / static_cast<float>(n);
  const float root = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean_square + eps)));
  // Infinity minus itself is NaN: without it an overflow would make r, and every y, a quiet 0.
  const __m512 r = _mm512_set1_ps(1.0f / root + (mean_square - mean_square));
  for (int64_t i = 0; i < n; i += kLanes) {
    const __m512 scaled = _mm512_mul_ps(load_floats(x + i, n - i), r);
    store_floats(y + i, n - i, _mm512_mul_ps(scaled, load_floats(weight + i, n - i)));
  }
}

// Bit patterns of absolute values order like the values, with infinity and NaN above all.
inline int32_t max_magnitude_bits(const float* x, int64_t n) {
  __m512i amax = _mm512_setzero_si512();
  for (int64_t k = 0; k < n; k += kLanes) {
    const __m512i bits = _mm512_castps_si512(load_floats(x + k, n - k));
    amax = _mm512_max_epi32(amax, _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
  }
  return _mm512_reduce_max_epi32(amax);
}

// max(amax / code_max, 1e-5f), the scale of a group or row.
inline float symmetric_scale(int32_t amax_bits, int32_t code_max) {
  const float scale =
      _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(amax_bits))) / static_cast<float>(code_max);
  return scale < 1e-5f ? 1e-5f : scale;
}

// round_half_even(x / scale) clamped to [code_min, code_max], of up to 16 values. Gives the codes.
inline __m512i quantize_16(const float* x, int64_t n, __m512 scale, __m512i code_min,
                           __m512i code_max) {
  const __m512i code = _mm512_cvtps_epi32(_mm512_div_ps(load_floats(x, n), scale));
  return _mm512_min_epi32(_mm512_max_epi32(code, code_min), code_max);
}

// One group of n <= 128 values; codes has room for 128 and is zero-filled past n.
void quantize_group(const float* x, int64_t n, int32_t code_max, int8_t* codes, float* scale,
                    int32_t* sum) {
  const int32_t amax_bits = max_magnitude_bits(x, n);
  *scale = symmetric_scale(amax_bits, code_max);
  if (amax_bits >= kInfinityBits) {
    *scale = __builtin_nanf("");
    n = 0;
  }
  const __m512 group_scale = _mm512_set1_ps(*scale);
  const __m512i highest = _mm512_set1_epi32(code_max);
  const __m512i lowest = _mm512_set1_epi32(-code_max - 1);
  __m512i total = _mm512_setzero_si512();
  for (int64_t k = 0; k < kGroupSize; k += kLanes) {
    __m512i code = _mm512_setzero_si512();
    if (k < n) code = quantize_16(x + k, n - k, group_scale, lowest, highest);
    total = _mm512_add_epi32(total, code);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + k), _mm512_cvtepi32_epi8(code));
  }
  *sum = _mm512_reduce_add_epi32(total);
}

void quantize_row(const float* x, int64_t n_cols, int32_t bits, int8_t* codes, float* scales,
                  int32_t* sums) {
  const int32_t code_max = (1 << (bits - 1)) - 1;
  for (int64_t first = 0, group = 0; first < n_cols; first += kGroupSize, ++group)
    quantize_group(x + first, min_int(kGroupSize, n_cols - first), code_max, codes + first,
                   scales + group, sums + group);
}

void quantize_kv_row(const float* x, int64_t n, int8_t* codes, uint16_t* scale) {
  const int32_t amax_bits = max_magnitude_bits(x, n);
  if (amax_bits >= kInfinityBits) {
    for (int64_t k = 0; k < n; k += kLanes)
      _mm_mask_storeu_epi8(codes + k, first_lanes(n - k), _mm_setzero_si128());
    *scale = 0x7e00;  // the quiet NaN of float_to_half
    return;
  }
  const __m128i stored =
      _mm_cvtps_ph(_mm_set_ss(symmetric_scale(amax_bits, 127)), _MM_FROUND_TO_NEAREST_INT);
  *scale = static_cast<uint16_t>(_mm_extract_epi16(stored, 0));
  const __m512 row_scale = _mm512_broadcastss_ps(_mm_cvtph_ps(stored));
  for (int64_t k = 0; k < n; k += kLanes) {
    const __m512i code =
        quantize_16(x + k, n - k, row_scale, _mm512_set1_epi32(-127), _mm512_set1_epi32(127));
    _mm_mask_storeu_epi8(codes + k, first_lanes(n - k), _mm512_cvtepi32_epi8(code));
  }
}

void silu_mul(const float* gate, const float* up, int64_t n, float* out) {
  const __m512 sign = _mm512_set1_ps(-0.0f);
  const __m512 one = _mm512_set1_ps(1.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const __m512 g = load_floats(gate + i, n - i);
    const __m512 silu = _mm512_div_ps(g, _mm512_add_ps(one, expf16(_mm512_xor_ps(g, sign))));
    store_floats(out + i, n - i, _mm512_mul_ps(silu, load_floats(up + i, n - i)));
  }
}

void rope(float* x, const float* cos, const float* sin, int64_t n_heads, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < n_heads; ++head) {
    float* first = x + head * head_dim;
    float* second = first + half;
    for (int64_t i = 0; i < half; i += kLanes) {
      const int64_t left = half - i;
      const __m512 a = load_floats(first + i, left);
      const __m512 b = load_floats(second + i, left);
      const __m512 c = load_floats(cos + i, left);
      const __m512 s = load_floats(sin + i, left);
      store_floats(first + i, left, _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s)));
      store_floats(second + i, left, _mm512_add_ps(_mm512_mul_ps(b, c), _mm512_mul_ps(a, s)));
    }
  }
}

void float_to_half(const float* x, int64_t n, uint16_t* out) {
  const __m512 quiet_nan = _mm512_set1_ps(__builtin_nanf(""));
  for (int64_t i = 0; i < n; i += kLanes) {
    // The bit patterns of base/half.h: a NaN becomes the quiet NaN of its sign, without its
    // payload.
    const __m512 value = load_floats(x + i, n - i);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const __m512 sign = _mm512_and_ps(value, _mm512_set1_ps(-0.0f));
    const __m512 clean = _mm512_mask_or_ps(value, is_nan, sign, quiet_nan);
    _mm256_mask_storeu_epi16(out + i, first_lanes(n - i),
                             _mm512_cvtps_ph(clean, _MM_FROUND_TO_NEAREST_INT));
  }
}

void half_to_float(const uint16_t* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += kLanes)
    store_floats(out + i, n - i, F16::load_few(x + i, n - i));
}

void bf16_to_float(const uint16_t* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += kLanes)
    store_floats(out + i, n - i, BF16::load_few(x + i, n - i));
}

void add(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes)
    store_floats(x + i, n - i, _mm512_add_ps(load_floats(x + i, n - i), load_floats(y + i, n - i)));
}

}  // namespace

constinit const CpuKernels kTable = {
    .name = "avx512vnni",
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

}  // namespace flexq::avx512
