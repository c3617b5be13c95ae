// silu(gate) * up on the device, operation by operation what the CPU kernels compute: the same bits
// wherever it is fused.
#pragma once

#include "kernels/cpu/vector_math.h"  // the constants of our exponential

namespace flexq {

__device__ inline float power_of_two_factor(int32_t n) {
  return __uint_as_float((static_cast<uint32_t>(n) + 127u) << 23);
}

// expf16 of kernels/cpu/vector_math.h, operation by operation: the same bits.
__device__ inline float exponential(float x) {
  x = kExpMin > x ? kExpMin : x;
  x = kExpMax < x ? kExpMax : x;
  const float shifted = __fmaf_rn(x, kLog2E, kRoundingShift);
  const float n = __fsub_rn(shifted, kRoundingShift);
  float r = __fmaf_rn(n, -kLn2High, x);
  r = __fmaf_rn(n, -kLn2Low, r);
  float p = __fmaf_rn(kExpP5, r, kExpP4);
  p = __fmaf_rn(p, r, kExpP3);
  p = __fmaf_rn(p, r, kExpP2);
  p = __fmaf_rn(p, r, kExpP1);
  p = __fmaf_rn(p, r, kExpP0);
  const float y = __fadd_rn(__fmaf_rn(p, __fmul_rn(r, r), r), 1.0f);
  const int32_t exponent = __float_as_int(shifted) - __float_as_int(kRoundingShift);
  const int32_t half = exponent >> 1;
  return __fmul_rn(__fmul_rn(y, power_of_two_factor(half)), power_of_two_factor(exponent - half));
}

__device__ inline float silu_times(float gate, float up) {
  return __fmul_rn(__fdiv_rn(gate, __fadd_rn(1.0f, exponential(-gate))), up);
}

}  // namespace flexq
