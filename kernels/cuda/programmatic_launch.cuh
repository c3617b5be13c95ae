// Programmatic dependent launch: a kernel queued by launch_overlapping() starts as soon as every
// CTA of the kernel before it has called let_next_kernel_start() or has ended, and what it does
// before wait_for_kernel_before() overlaps that kernel. Weights, token positions and block tables
// may be read there: nothing on the stream writes them during a pass. Everything else, reading and
// writing, comes after the wait, which also covers all kernels before that one, since they wait as
// well.
#pragma once

namespace flexq {

// Returns when the kernel before this one is done and its writes are visible. By all threads.
__device__ inline void wait_for_kernel_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next kernel's CTAs may take what room there is. Says nothing about this kernel's results.
__device__ inline void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// For kernels with nothing to do ahead of the wait.
__device__ inline void take_turn() {
  wait_for_kernel_before();
  let_next_kernel_start();
}

}  // namespace flexq
