// The fp16 tensor-core instructions of attention. Lane l of a warp has g = l / 4 and t = l % 4.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace flexq::attention {

// Four 8 x 8 matrices of halves from shared memory: lanes 8i .. 8i + 7 point at the 16-byte rows of
// matrix i, and lane l gets elements 2t, 2t + 1 of row g of each.
__device__ inline void load_matrices(uint32_t (&m)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}
// The same, each matrix transposed: rows 2t, 2t + 1 of column g.
__device__ inline void load_matrices_transposed(uint32_t (&m)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}

// C (16 x 8, fp32) += A (16 x 16) * B (16 x 8).
//   a0, a1: columns 2t, 2t + 1 of rows g, g + 8; a2, a3: columns 2t + 8, 2t + 9
//   b0: rows 2t, 2t + 1 of column g; b1: rows 2t + 8, 2t + 9
//   c0, c1: row g, columns 2t, 2t + 1; c2, c3: row g + 8
__device__ inline void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  // sm_75 has the halves of it.
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

// Two floats rounded to nearest even, `low` in the low half.
__device__ inline uint32_t pack_halves(float low, float high) {
  const __half2_raw pair = __floats2half2_rn(low, high);
  return static_cast<uint32_t>(pair.x) | static_cast<uint32_t>(pair.y) << 16;
}

// 2^x within 2 ulp; exactly 1 at 0, +0 at -infinity.
__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace flexq::attention
