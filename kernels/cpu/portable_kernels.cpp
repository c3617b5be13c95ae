// The kernel table in plain C++ and its short kernels: the definition that every other table must
// match bit for bit, and what runs on processors without AVX2. fma is written wherever the contract
// in cpu_kernels.h says fma; everything else is one rounding per operation (-ffp-contract=off).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/half.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/portable_lanes.h"
#include "kernels/cpu/portable_table.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/layout/w6_layout.h"

namespace flexq {
namespace portable {
namespace {

using w6::kGroupSize;

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y) {
  const float mean_square = dot16(x, x, n, load_f32) / static_cast<float>(n);
  // Infinity minus itself is NaN: without it an overflow would make r, and every y, a quiet 0.
  const float r = 1.0f / std::sqrt(mean_square + eps) + (mean_square - mean_square);
  for (int64_t i = 0; i < n; ++i)
    y[i] = (x[i] * r) * weight[i];
}

constexpr uint32_t kInfinityBits = 0x7f800000u;

// Bit patterns of absolute values order like the values, with infinity and NaN above all.
uint32_t max_magnitude_bits(const float* x, int64_t n) {
  uint32_t amax_bits = 0;
  for (int64_t i = 0; i < n; ++i)
    amax_bits = std::max(amax_bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return amax_bits;
}

// One group of n <= 128 values; codes has room for 128 and is zero-filled past n.
void quantize_group(const float* x, int64_t n, float code_max, int8_t* codes, float* scale,
                    int32_t* sum) {
  const uint32_t amax_bits = max_magnitude_bits(x, n);
  std::memset(codes, 0, kGroupSize);
  *sum = 0;
  if (amax_bits >= kInfinityBits) {
    *scale = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  const float group_scale = std::max(std::bit_cast<float>(amax_bits) / code_max, 1e-5f);
  *scale = group_scale;
  int32_t total = 0;
  for (int64_t i = 0; i < n; ++i) {
    // |x / scale| is at most code_max and a rounding error: the shift rounds it to the nearest
    // even.
    const float rounded = (x[i] / group_scale + kRoundingShift) - kRoundingShift;
    const int32_t code = static_cast<int32_t>(std::min(std::max(rounded, -code_max - 1), code_max));
    codes[i] = static_cast<int8_t>(code);
    total += code;
  }
  *sum = total;
}

void quantize_row(const float* x, int64_t n_cols, int32_t bits, int8_t* codes, float* scales,
                  int32_t* sums) {
  const float code_max = static_cast<float>((1 << (bits - 1)) - 1);
  for (int64_t group = 0; group < w6::n_groups(n_cols); ++group) {
    const int64_t first = group * kGroupSize;
    quantize_group(x + first, std::min(kGroupSize, n_cols - first), code_max, codes + first,
                   scales + group, sums + group);
  }
}

void quantize_kv_row(const float* x, int64_t n, int8_t* codes, uint16_t* scale) {
  const uint32_t amax_bits = max_magnitude_bits(x, n);
  if (amax_bits >= kInfinityBits) {
    std::memset(codes, 0, static_cast<size_t>(n));
    *scale = float_to_half(std::numeric_limits<float>::quiet_NaN());
    return;
  }
  *scale = float_to_half(std::max(std::bit_cast<float>(amax_bits) / 127.0f, 1e-5f));
  const float row_scale = half_to_float(*scale);  // infinity for a row above the range of halves
  for (int64_t i = 0; i < n; ++i) {
    const float rounded = (x[i] / row_scale + kRoundingShift) - kRoundingShift;
    codes[i] = static_cast<int8_t>(std::min(std::max(rounded, -127.0f), 127.0f));
  }
}

void silu_mul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = (gate[i] / (1.0f + expf16(-gate[i]))) * up[i];
}

void rope(float* x, const float* cos, const float* sin, int64_t n_heads, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < n_heads; ++head) {
    float* first = x + head * head_dim;
    float* second = first + half;
    for (int64_t i = 0; i < half; ++i) {
      const float a = first[i];
      const float b = second[i];
      first[i] = a * cos[i] - b * sin[i];
      second[i] = b * cos[i] + a * sin[i];
    }
  }
}

void convert_to_half(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = float_to_half(x[i]);
}

void convert_half(const uint16_t* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = half_to_float(x[i]);
}

void convert_bf16(const uint16_t* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = bf16_to_float(x[i]);
}

void add(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    x[i] = x[i] + y[i];
}

constexpr CpuKernels kPortableKernels = {
    .name = "portable",
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
    .float_to_half = convert_to_half,
    .half_to_float = convert_half,
    .bf16_to_float = convert_bf16,
    .add = add,
};

}  // namespace
}  // namespace portable

const CpuKernels& portable_kernels() {
  return portable::kPortableKernels;
}

}  // namespace flexq
