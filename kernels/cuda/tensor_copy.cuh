// Copies of boxes of a matrix into shared memory by cp.async.bulk.tensor, and what CTAs of a
// cluster need to share them. One instruction per function, sm_90; nothing elsewhere.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace flexq {

// Copies the box whose first element is (column, row) of the map's matrix and tells the barrier.
__device__ inline void copy_box(uint32_t shared, const CUtensorMap* map, int32_t column,
                                int32_t row, uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared),
      "l"(map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
#endif
}

// The same into the CTAs of the cluster whose bits are set, at the same places in their shared
// memory, barriers included.
__device__ inline void copy_box_to(uint32_t shared, const CUtensorMap* map, int32_t column,
                                   int32_t row, uint32_t barrier, uint16_t ctas) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared),
      "l"(map), "r"(column), "r"(row), "r"(barrier), "h"(ctas)
      : "memory");
#endif
}

__device__ inline int32_t cluster_rank() {
#if __CUDA_ARCH__ >= 900
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int32_t>(rank);
#else
  return 0;
#endif
}

// All threads of the cluster meet.
__device__ inline void cluster_sync() {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
#endif
}

// One arrival at the barrier that a CTA of the cluster has where this one has `barrier`.
__device__ inline void mbarrier_arrive_at(uint32_t barrier, int32_t cta) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}" ::"r"(barrier),
      "r"(cta)
      : "memory");
#endif
}

}  // namespace flexq
