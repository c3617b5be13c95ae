// RMSNorm and quantization of one row of activations, in the order of sums that every kernel which
// does them keeps: the standalone ones and the linears that quantize their own input. Codes and
// scales are the CPU's integers and bits for the same fp32 input: scales are made by IEEE
// operations written as such, codes are those of the IEEE quotient.
//
// A warp of quads is one quantization group of 128, so a group's maximum is one reduction of a
// warp, and its codes leave as 128 consecutive bytes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/row_quads.cuh"
#include "kernels/layout/cuda_int8_layout.h"

namespace flexq {

inline constexpr uint32_t kAllLanes = 0xffffffffu;
inline constexpr uint32_t kInfinityBits = 0x7f800000u;
inline constexpr float kSmallestScale = 1e-5f;

// --- the quantizer -------------------------------------------------------------------------------

__device__ inline uint32_t warp_max(uint32_t value) {
#if __CUDA_ARCH__ >= 800
  return __reduce_max_sync(kAllLanes, value);
#else
  for (int offset = 16; offset > 0; offset /= 2)
    value = max(value, __shfl_xor_sync(kAllLanes, value, offset));
  return value;
#endif
}

__device__ inline uint32_t magnitude_bits(float value) {
  return __float_as_uint(value) & 0x7fffffffu;
}

__device__ inline uint32_t largest_magnitude_bits(float4 quad) {
  return max(max(magnitude_bits(quad.x), magnitude_bits(quad.y)),
             max(magnitude_bits(quad.z), magnitude_bits(quad.w)));
}

struct GroupScale {
  float scale;
  float inverse;
};
// scale = max(max|x| / code_max, 1e-5), NaN for a group that is not finite. 0 and what is close to
// it would take the warp through the slow case of the division.
__device__ inline GroupScale group_scale(uint32_t max_bits, int32_t code_max) {
  constexpr uint32_t kSmallBits = 0x10000000u;  // 2.5e-29
  max_bits = max(max_bits, kSmallBits);
  const float largest =
      max_bits < kInfinityBits ? __uint_as_float(max_bits) : __uint_as_float(0x7fc00000u);
  const float quotient = __fdiv_rn(largest, static_cast<float>(code_max));
  const float scale = quotient < kSmallestScale ? kSmallestScale : quotient;
  return {scale, __fdiv_rn(1.0f, scale)};
}

// The low byte of clamp(round_half_even(quotient)); 0 for NaN.
__device__ inline uint32_t code_byte(float quotient, int32_t code_max) {
  return static_cast<uint32_t>(min(max(__float2int_rn(quotient), -code_max - 1), code_max)) & 0xffu;
}

// x / scale, an IEEE division, where that is near a border between two codes; within a unit in the
// last place elsewhere. The product with the inverse is off by up to 1.5 units; what the product
// misses of x is exact in one fma, and corrects it (Markstein, Computation of elementary functions
// on the IBM RISC System/6000 processor, 1990). On a CPU, the same operations gave the division's
// quotient for every significand of the scale and the 7 values of x around every border.
__device__ inline float quotient(float x, const GroupScale& by) {
  const float product = __fmul_rn(x, by.inverse);
  return __fmaf_rn(__fmaf_rn(-by.scale, product, x), by.inverse, product);
}

__device__ inline uint32_t quantize_quad(float4 x, const GroupScale& by, int32_t code_max) {
  return code_byte(quotient(x.x, by), code_max) | code_byte(quotient(x.y, by), code_max) << 8 |
         code_byte(quotient(x.z, by), code_max) << 16 |
         code_byte(quotient(x.w, by), code_max) << 24;
}

// Quantizes a group of 128, a quad per lane, values past the row's end being 0. A group that is not
// finite gets codes 0 and scale NaN. All lanes of the warp call it.
__device__ inline void quantize_group(float4 quad, int32_t code_max, int64_t token,
                                      int64_t n_tokens, int64_t group, int64_t n_groups,
                                      const CudaQuantized& out) {
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  const GroupScale by = group_scale(warp_max(largest_magnitude_bits(quad)), code_max);
  const bool natural = out.order == CodesOrder::kNatural;
  auto* words = reinterpret_cast<uint32_t*>(out.codes + (token * n_groups + group) * kGroupSize);
  words[natural ? lane : cuda_int8::tensor_word(lane)] = quantize_quad(quad, by, code_max);
  if (lane == 0)
    out.scales[natural ? token * n_groups + group : group * n_tokens + token] = by.scale;
}

// The same for groups first, first + step, .. of a row in natural order, those past n_groups left
// out. Each lane divides for one group, and there is no branch between the groups, so that they
// overlap: one after the other they would take longest.
template <int kGroups>
__device__ inline void quantize_groups(const float4 (&quads)[kGroups], int32_t code_max,
                                       int32_t first, int32_t step, int32_t n_groups,
                                       const CudaQuantized& out) {
  static_assert(kGroups <= 32, "a lane for each group");
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  uint32_t own = 0;
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    const uint32_t max_bits = warp_max(largest_magnitude_bits(quads[i]));
    if (lane == i) own = max_bits;
  }
  const GroupScale own_by = group_scale(own, code_max);
  uint32_t codes[kGroups];
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    const GroupScale by = {__shfl_sync(kAllLanes, own_by.scale, i),
                           __shfl_sync(kAllLanes, own_by.inverse, i)};
    codes[i] = quantize_quad(quads[i], by, code_max);
  }
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    const int32_t group = first + i * step;
    if (group < n_groups)
      reinterpret_cast<uint32_t*>(out.codes + group * kGroupSize)[lane] = codes[i];
  }
  if (lane < kGroups && first + lane * step < n_groups)
    out.scales[first + lane * step] = own_by.scale;
}

__host__ __device__ constexpr int32_t code_max_of(int32_t bits) {
  return (1 << (bits - 1)) - 1;
}

// --- RMSNorm -------------------------------------------------------------------------------------

// Threads of a row: one quad each, as far as a CTA reaches. A function of n alone, because it fixes
// the order of the sum of squares.
inline constexpr int32_t kMostNormThreads = 1024;
__host__ __device__ constexpr int32_t norm_threads(int64_t n) {
  const int64_t threads = (n + kGroupSize - 1) / kGroupSize * 32;
  return static_cast<int32_t>(threads < kMostNormThreads ? threads : kMostNormThreads);
}

// The sum over a warp as a tree, the same bits in every lane: a + b is b + a.
__device__ inline float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2)
    value = __fadd_rn(value, __shfl_xor_sync(kAllLanes, value, offset));
  return value;
}

// The same of several values at once.
template <int kValues>
__device__ inline void sum_over_warp(float (&values)[kValues]) {
  for (int offset = 16; offset > 0; offset /= 2) {
#pragma unroll
    for (int i = 0; i < kValues; ++i)
      values[i] = __fadd_rn(values[i], __shfl_xor_sync(kAllLanes, values[i], offset));
  }
}

__device__ inline float add_squares(float sum, float4 quad) {
  sum = __fmaf_rn(quad.x, quad.x, sum);
  sum = __fmaf_rn(quad.y, quad.y, sum);
  sum = __fmaf_rn(quad.z, quad.z, sum);
  return __fmaf_rn(quad.w, quad.w, sum);
}

// 1 / sqrt(mean square + eps) from the sum of squares of n values, which is made like this: each of
// norm_threads(n) threads sums its quads (every norm_threads-th) in ascending order, then a tree
// over each warp's lanes, then one over the warps. NaN where the sum is not finite: without it an
// overflow would make every output a quiet 0.
__device__ inline float inverse_of_sum(float sum, int64_t n, float eps) {
  const float mean_square = __fdiv_rn(sum, static_cast<float>(n));
  const float inverse = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean_square, eps)));
  return __fadd_rn(inverse, __fsub_rn(mean_square, mean_square));
}

__device__ inline float4 normalize(float4 x, float inverse, float4 weight) {
  return make_float4(
      __fmul_rn(__fmul_rn(x.x, inverse), weight.x), __fmul_rn(__fmul_rn(x.y, inverse), weight.y),
      __fmul_rn(__fmul_rn(x.z, inverse), weight.z), __fmul_rn(__fmul_rn(x.w, inverse), weight.w));
}

}  // namespace flexq
