// The CPU kernels as one table per instruction set. The portable table is the definition: every
// other table must give the same bits for the same arguments (tests/kernels compares them by
// memcmp). Threads split output rows or tokens only; a kernel call is single-threaded.
//
// Arithmetic that all tables share:
//  * fp32, round to nearest even, compiled with -ffp-contract=off; fma() where written below.
//  * dot16(a, b, n): 16 lane accumulators start at +0; step k0 = 0, 16, .. does
//    lane[l] = fma(a[k0 + l], b[k0 + l], lane[l]), elements past n count as +0 * +0; the result is
//    the tree l += l+8, l += l+4, l += l+2, l += l+1. sum16(a, n): the same with lane[l] +=
//    a[k0+l].
//  * expf16(x): our own exponential (kernels/cpu/vector_math.h), NaN in gives NaN out.
//  * A float NaN is one value: its sign and payload are left open.
#pragma once

#include <cstdint>

namespace flexq {

// A W6 weight matrix (N, K) in the layout of kernels/layout/w6_layout.h.
struct PackedW6 {
  const uint8_t* codes = nullptr;    // w6::codes_bytes(N, K)
  const uint16_t* scales = nullptr;  // (N/16, G, 16) fp16 bit patterns, w6::scales_bytes(N, K)
  float scale_multiplier = 1.0f;     // a power of two: sw[n,g] = half_to_float(scale) * multiplier
  int64_t n_rows = 0;                // N
  int64_t n_cols = 0;                // K
};

// Activations quantized by quantize_row, one row per token, groups of 128 along K.
struct QuantizedRows {
  const int8_t* codes = nullptr;  // (n_tokens, K padded to 128), zero past K
  const float* scales = nullptr;  // (n_tokens, G)
  const int32_t* sums = nullptr;  // (n_tokens, G): sum of the group's codes
};

enum class DenseType : int32_t { kF32 = 0, kF16 = 1, kBF16 = 2 };

// One attention call: the n_q query heads that share one KV head, for one token.
struct AttentionArgs {
  const float* q = nullptr;               // (n_q, head_dim)
  float* out = nullptr;                   // (n_q, head_dim)
  float* scores = nullptr;                // scratch, n_positions rounded up to 16
  const uint8_t* const* pages = nullptr;  // block table: page_tokens positions per page
  int64_t k_offset_bytes = 0;  // in a page: K of this layer and head, (page_tokens, head_dim)
  int64_t v_offset_bytes = 0;  // the same for V
  int64_t page_tokens = 0;
  int64_t n_positions = 0;  // attends to positions [0, n_positions), n_positions >= 1
  int64_t head_dim = 0;
  int64_t n_q = 0;
  float scale = 0;                      // 1 / sqrt(head_dim)
  DenseType kv_type = DenseType::kF16;  // kF16 or kF32
};

struct CpuKernels {
  const char* name;  // "portable", "avx2"

  // y[i] = (x[i] * r) * weight[i], r = 1 / sqrt(dot16(x, x, n) / n + eps). x and y may be the same.
  // Where the sum of squares is not finite every y is NaN, so that the fault reaches the logits.
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* y);

  // Per group of 128 (the last may be shorter): amax over |x|; scale = max(amax / (2^(bits-1) - 1),
  // 1e-5f); code = clamp(round_half_even(x / scale), -2^(bits-1), 2^(bits-1) - 1), IEEE divisions.
  // A group with NaN or infinity gets codes 0 and scale NaN, so that the fault reaches the logits.
  // bits: 6 or 8. codes: K rounded up to 128, zero-filled past K. FlexQ paper, section 3.
  void (*quantize_row)(const float* x, int64_t n_cols, int32_t bits, int8_t* codes, float* scales,
                       int32_t* sums);

  // out[t, n] = sum over g ascending: acc = fma((float)dot_int32(t, n, g), sx[t,g] * sw[n,g], acc)
  // for rows n of row blocks [block_begin, block_end) of 16 (rows past N are not written).
  // out: (n_tokens, out_stride).
  void (*linear_w6_int8)(const PackedW6& w, const QuantizedRows& x, int64_t n_tokens,
                         int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);

  // Unquantized input: per group gacc = fma(x[t,k], (float)q[n,k], gacc) over k ascending from +0,
  // then acc = fma(gacc, sw[n,g], acc) over g ascending. x: (n_tokens, x_stride).
  void (*linear_w6_f32)(const PackedW6& w, const float* x, int64_t x_stride, int64_t n_tokens,
                        int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);

  // out[t, n] = dot16(x[t], w[n], n_cols) for rows [row_begin, row_end) of a row-major (N, K)
  // matrix.
  void (*linear_dense)(const void* w, DenseType type, int64_t n_cols, const float* x,
                       int64_t x_stride, int64_t n_tokens, int64_t row_begin, int64_t row_end,
                       float* out, int64_t out_stride);

  // out[i] = (gate[i] / (1 + expf16(-gate[i]))) * up[i]
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);

  // Rotates pairs (i, i + head_dim/2) of each head in place: a' = a*cos - b*sin, b' = b*cos +
  // a*sin, products rounded separately. x: (n_heads, head_dim); cos, sin: (head_dim / 2).
  void (*rope)(float* x, const float* cos, const float* sin, int64_t n_heads, int64_t head_dim);

  // s[p] = dot16(q, k[p]) * scale; m = max s; e[p] = expf16(s[p] - m); sum = sum16(e);
  // out[d] = (acc over p ascending: fma(e[p], v[p][d], acc)) * (1 / sum). A NaN score gives NaN.
  void (*attention)(const AttentionArgs& args);

  // Round to nearest even; the bit patterns of float_to_half. NaN stays NaN.
  void (*float_to_half)(const float* x, int64_t n, uint16_t* out);
  void (*half_to_float)(const uint16_t* x, int64_t n, float* out);
  void (*bf16_to_float)(const uint16_t* x, int64_t n, float* out);

  // x[i] += y[i]
  void (*add)(float* x, const float* y, int64_t n);
};

const CpuKernels& portable_kernels();
// Null when this processor lacks AVX2, FMA or F16C, or when not built for x86-64.
const CpuKernels* avx2_kernels();

// The best table for this processor; `forced` ("portable", "avx2") picks one by name and gives null
// when there is none of that name here. Chosen once per device, never per call.
const CpuKernels* select_cpu_kernels(const char* forced);

}  // namespace flexq
