// Copies of boxes of a matrix into shared memory by cp.async.bulk.tensor. One instruction per
// function, sm_90; nothing elsewhere.
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

}  // namespace flexq
