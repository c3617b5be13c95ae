// Rows of keys and values of one token and KV head: rotation, and the way into the paged cache.
#pragma once

#include <cuda_fp16.h>

#include "kernels/cuda/cuda_kernels.h"

namespace flexq {

// The smallest bits of a magnitude that is not finite.
inline constexpr uint32_t kNotFiniteBits = 0x7f800000u;

// Element i of a rotated row, products rounded separately as on the CPU.
__device__ inline float rotated(const float* x, const float* cos, const float* sin, int32_t half,
                                int32_t i) {
  const int32_t pair = i < half ? i : i - half;
  const float a = x[pair];
  const float b = x[pair + half];
  return i < half ? __fsub_rn(__fmul_rn(a, cos[pair]), __fmul_rn(b, sin[pair]))
                  : __fadd_rn(__fmul_rn(b, cos[pair]), __fmul_rn(a, sin[pair]));
}

// `element(i)` is element i of the row. The same integers and scale bits as quantize_kv_row of the
// CPU: scale = fp16(max(amax / 127, 1e-5)), code = clamp(round_half_even(x / scale), -127, 127); a
// row with NaN or infinity has codes 0 and scale NaN.
template <typename Element>
__device__ inline void store_int8(const Element& element, int32_t head_dim, int8_t* codes,
                                  uint16_t* scale, int32_t lane) {
  uint32_t amax_bits = 0;
  for (int32_t i = lane; i < head_dim; i += 32)
    amax_bits = max(amax_bits, __float_as_uint(element(i)) & 0x7fffffffu);
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2)
    amax_bits = max(amax_bits, __shfl_xor_sync(~0u, amax_bits, mask));
  const bool finite = amax_bits < kNotFiniteBits;
  const __half scale_half =
      __float2half_rn(fmaxf(__fdiv_rn(__uint_as_float(amax_bits), 127.0f), 1e-5f));
  const float row_scale = __half2float(scale_half);
  for (int32_t i = lane; i < head_dim; i += 32) {
    // Rounding after the clamp gives the same integer: both bounds are integers.
    const float code = fminf(fmaxf(__fdiv_rn(element(i), row_scale), -127.0f), 127.0f);
    codes[i] = finite ? static_cast<int8_t>(__float2int_rn(code)) : int8_t{0};
  }
  if (lane == 0) *scale = finite ? __half_raw(scale_half).x : uint16_t{0x7e00};
}

template <typename Element>
__device__ inline void store_row(const CudaKv& kv, const Element& element, int32_t slot_in_page,
                                 uint8_t* head, int32_t lane) {
  if (kv.int8) {
    auto* scales = reinterpret_cast<uint16_t*>(head + int64_t{kv.page_tokens} * kv.head_dim);
    store_int8(element, kv.head_dim,
               reinterpret_cast<int8_t*>(head) + int64_t{slot_in_page} * kv.head_dim,
               scales + slot_in_page, lane);
  } else {
    auto* row = reinterpret_cast<__half*>(head) + int64_t{slot_in_page} * kv.head_dim;
    for (int32_t i = lane; i < kv.head_dim; i += 32)
      row[i] = __float2half_rn(element(i));
  }
}

// K (slot: the KV head) or V (slot: the KV head and n_kv_heads more) in the page of a position.
__device__ inline uint8_t* kv_head_in_page(const CudaKv& kv, const int32_t* table, int32_t position,
                                           int32_t slot) {
  const int64_t page = table[position / kv.page_tokens];
  return kv.pages + page * kv.page_bytes + kv.layer_offset + slot * kv.head_bytes;
}

}  // namespace flexq
