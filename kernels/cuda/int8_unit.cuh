// One unit of kernels/layout/cuda_int8_layout.h in a warp's registers, and the arithmetic that
// every INT8 kernel shares, so that they give the same bits.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/int8_linear_args.h"
#include "kernels/layout/cuda_int8_layout.h"

namespace flexq {

// An int32 accumulator that starts here reads, as a float, kDotZero + dot, exactly for
// |dot| < 2^22: converting to float is one subtraction. Group dots are at most 128 * 128 * 128 =
// 2^21, and 4 * 32 * 128 * 128 = 2^21 for 6-bit weights in the top bits of their bytes.
inline constexpr int32_t kDotZeroBits = 0x4b400000;
inline constexpr float kDotZero = 12582912.0f;  // 1.5 * 2^23
static_assert(cuda_int8::kGroupSize * 128 * 128 < (1 << 22),
              "a group dot is exact beside 1.5*2^23");

__device__ inline float dot_to_float(int32_t biased_dot) {
  return __fsub_rn(__int_as_float(biased_dot), kDotZero);
}

// A stored fp16 scale of weights as fp32.
__device__ inline float weight_scale(uint16_t half_bits, float multiplier) {
  return __fmul_rn(__half2float(__ushort_as_half(half_bits)), multiplier);
}

// The contract's step over one group.
__device__ inline float add_group(float acc, float dot, float x_scale, float w_scale) {
  return __fmaf_rn(dot, __fmul_rn(x_scale, w_scale), acc);
}

// bias and store, in the contract's order.
__device__ inline void store_output(const Int8LinearArgs& args, int64_t token, int32_t row,
                                    float acc) {
  if (args.bias != nullptr) acc = __fadd_rn(acc, args.bias[row]);
  float* out = args.out + token * args.out_stride + row;
  *out = args.store == CudaStore::kAdd ? __fadd_rn(*out, acc) : acc;
}

// A lane's 16 A registers: a[4 * step + reg]. 6-bit codes stand in the top bits of their bytes.
// `unit` may be shared or global memory.
template <int kBits>
__device__ inline void load_unit(const uint8_t* unit, int32_t lane, uint32_t (&a)[16]) {
  const auto* words = reinterpret_cast<const uint4*>(unit) + lane;
  if constexpr (kBits == 8) {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const uint4 load = words[step * 32];
      a[4 * step] = load.x;
      a[4 * step + 1] = load.y;
      a[4 * step + 2] = load.z;
      a[4 * step + 3] = load.w;
    }
  } else {
    const uint4 low = words[0];
    const uint4 high = words[32];
    const uint4 last = words[64];
    cuda_int8::unpack_step(low.x, low.y, last.x, a);
    cuda_int8::unpack_step(low.z, low.w, last.y, a + 4);
    cuda_int8::unpack_step(high.x, high.y, last.z, a + 8);
    cuda_int8::unpack_step(high.z, high.w, last.w, a + 12);
  }
}

}  // namespace flexq
