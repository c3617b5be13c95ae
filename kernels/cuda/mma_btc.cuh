// Binary tensor cores: products of bit planes as population counts. One PTX instruction per
// function; mma_and_popc is what kernels call.
#pragma once

#include <cstdint>

namespace flexq::btc {

// c[i] (16 x 8, two rows of two columns per lane) = popcount(A row & B column) over 128 bits.
// Fragments as in kernels/layout/cuda_btc_layout.h; c[0], c[1]: row lane / 4, columns
// 2 * (lane % 4) and the next; c[2], c[3]: row lane / 4 + 8.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800

__device__ __forceinline__ void mma_and_popc(int32_t (&c)[4], uint32_t a0, uint32_t a1,
                                             uint32_t b) {
  asm("mma.sync.aligned.m16n8k128.row.col.s32.b1.b1.s32.and.popc "
      "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %7, %7, %7};"
      : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
      : "r"(a0), "r"(a1), "r"(b), "r"(0));
}

#else

// c = popcount(A row ^ B column), 8 x 8, two columns per lane: all that sm_75 has.
__device__ __forceinline__ void mma_xor_popc(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) {
  asm("mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc "
      "{%0, %1}, {%2}, {%3}, {%4, %4};"
      : "=r"(c0), "=r"(c1)
      : "r"(a), "r"(b), "r"(0));
}

// popc(a & b) = (popc(a) + popc(b) - popc(a ^ b)) / 2, where popc(a) = popc(a ^ 0).
__device__ __forceinline__ void mma_and_popc(int32_t (&c)[4], uint32_t a0, uint32_t a1,
                                             uint32_t b) {
  int32_t b_count[2];
  mma_xor_popc(b_count[0], b_count[1], 0, b);
  for (int32_t half = 0; half < 2; ++half) {
    const uint32_t a = half == 0 ? a0 : a1;
    int32_t a_count[2];
    int32_t different[2];
    mma_xor_popc(a_count[0], a_count[1], a, 0);
    mma_xor_popc(different[0], different[1], a, b);
    for (int32_t i = 0; i < 2; ++i)
      c[half * 2 + i] = (a_count[i] + b_count[i] - different[i]) / 2;
  }
}

#endif

}  // namespace flexq::btc
