// The TF32 tensor-core instruction and its rounding. Lane l of a warp has g = l / 4 and t = l % 4.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace flexq::float_linear {

// Nearest TF32 number (11 significant bits), ties away from zero.
__device__ inline uint32_t to_tf32(float x) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
  return bits;
#else
  const uint32_t bits = __float_as_uint(x);
  const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  return finite ? (bits + 0x1000u) & 0xffffe000u : bits;
#endif
}

// C (16 x 8) += A (16 x 8) * B (8 x 8).
//   a0, a1: rows g, g + 8 of column t; a2, a3: the same of column t + 4
//   b0, b1: rows t, t + 4 of column g
//   c0, c1: row g, columns 2t, 2t + 1; c2, c3: row g + 8
__device__ inline void mma_m16n8k8(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                   uint32_t a3, uint32_t b0, uint32_t b1) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
  // No such instruction before sm_80: the same products on the ordinary cores.
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int quad = lane & ~3;
  const int column = lane % 4 * 2;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const uint32_t row_a = __shfl_sync(~0u, k < 4 ? a0 : a2, quad + k % 4);
    const uint32_t row8_a = __shfl_sync(~0u, k < 4 ? a1 : a3, quad + k % 4);
    const uint32_t col_b = __shfl_sync(~0u, k < 4 ? b0 : b1, column * 4 + k % 4);
    const uint32_t col1_b = __shfl_sync(~0u, k < 4 ? b0 : b1, column * 4 + 4 + k % 4);
    c[0] = __fmaf_rn(__uint_as_float(row_a), __uint_as_float(col_b), c[0]);
    c[1] = __fmaf_rn(__uint_as_float(row_a), __uint_as_float(col1_b), c[1]);
    c[2] = __fmaf_rn(__uint_as_float(row8_a), __uint_as_float(col_b), c[2]);
    c[3] = __fmaf_rn(__uint_as_float(row8_a), __uint_as_float(col1_b), c[3]);
  }
#endif
}

}  // namespace flexq::float_linear
