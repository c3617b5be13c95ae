// The PTX instructions that the integer kernels use, one per function, and nothing else: mma.sync
// on signed bytes, asynchronous copies into shared memory, and the barriers that count their bytes.
// An instruction that an architecture lacks compiles to nothing there: linear_select.h never sends
// a kernel to a GPU without its instructions.
#pragma once

#include <cstdint>

namespace flexq {

#if __CUDA_ARCH__ >= 900
inline constexpr bool kHasBulkCopies = true;
#else
inline constexpr bool kHasBulkCopies = false;
#endif

// The address of shared memory as instructions take it.
__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// d = a * b + c on a 16 x 32 by 32 x 8 tile of signed bytes. Lane l with g = l / 4, t = l % 4 holds
// of d and c: rows g, g, g + 8, g + 8 and columns 2t, 2t + 1, 2t, 2t + 1. sm_80.
__device__ inline void mma_m16n8k32_s8(int32_t (&d)[4], const uint32_t* a, uint32_t b0, uint32_t b1,
                                       const int32_t (&c)[4]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c[0]), "r"(c[1]),
        "r"(c[2]), "r"(c[3]));
#endif
}

// Copies 16 bytes past the L1 cache; both addresses are multiples of 16. sm_80.
__device__ inline void cp_async_16(uint32_t shared, const void* global) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
#endif
}

// Copies 4 bytes. sm_80.
__device__ inline void cp_async_4(uint32_t shared, const void* global) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared), "l"(global) : "memory");
#endif
}

// A barrier in shared memory, 8 bytes: a phase is complete after `arrivals` arrivals and all the
// bytes that were expected in it. sm_80.
__device__ inline void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
#endif
}

// Makes initialized barriers visible to asynchronous copies, which only sm_90 has.
__device__ inline void fence_mbarrier_init() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

// One arrival; what this thread did before is visible to whom the phase releases. sm_80.
__device__ inline void mbarrier_arrive(uint32_t barrier) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "{\n"
      ".reg .b64 state;\n"
      "mbarrier.arrive.shared.b64 state, [%0];\n"
      "}" ::"r"(barrier)
      : "memory");
#endif
}

// One arrival, and `bytes` more to come in this phase. sm_90.
__device__ inline void mbarrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
#endif
}

// One arrival as soon as this thread's cp.async copies so far are complete. sm_80.
__device__ inline void mbarrier_arrive_after_copies(uint32_t barrier) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
#endif
}

// Whether the phase of this parity is complete; sm_90 may wait a while before it says no. sm_80.
__device__ inline bool mbarrier_try_wait(uint32_t barrier, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  uint32_t complete;
  asm volatile(
      "{\n"
      ".reg .pred complete;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 complete, [%1], %2;\n"
      "selp.u32 %0, 1, 0, complete;\n"
      "}"
      : "=r"(complete)
      : "r"(barrier), "r"(parity)
      : "memory");
  return complete != 0;
#elif __CUDA_ARCH__ >= 800
  uint32_t complete;
  asm volatile(
      "{\n"
      ".reg .pred complete;\n"
      "mbarrier.test_wait.parity.shared.b64 complete, [%1], %2;\n"
      "selp.u32 %0, 1, 0, complete;\n"
      "}"
      : "=r"(complete)
      : "r"(barrier), "r"(parity)
      : "memory");
  return complete != 0;
#else
  return true;
#endif
}

__device__ inline void mbarrier_wait(uint32_t barrier, uint32_t parity) {
  while (!mbarrier_try_wait(barrier, parity)) {
  }
}

// Copies `bytes`, a multiple of 16, and tells the barrier. Addresses are multiples of 16. sm_90.
__device__ inline void cp_async_bulk(uint32_t shared, const void* global, uint32_t bytes,
                                     uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared),
      "l"(global), "r"(bytes), "r"(barrier)
      : "memory");
#endif
}

}  // namespace flexq
