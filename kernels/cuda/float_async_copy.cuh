// Copies from global to shared memory that do not pass through registers (sm_80 and newer; plain
// loads and stores before). 16, 8 or 4 bytes, both sides aligned to that; bytes past `valid` are
// written as zeros and not read.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace flexq::float_copy {

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800

// Around L1: for what no other warp of the multiprocessor reads again.
__device__ inline void copy16(void* shared, const void* global, int valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid)
               : "memory");
}
// The same with offsets that are part of the instruction.
template <int kTo, int kFrom>
__device__ inline void copy16_at(uint32_t shared, const void* global, int valid) {
  asm volatile("cp.async.cg.shared.global [%0 + %3], [%1 + %4], 16, %2;\n" ::"r"(shared),
               "l"(global), "r"(valid), "n"(kTo), "n"(kFrom)
               : "memory");
}
__device__ inline void copy8(void* shared, const void* global, int valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;\n" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid)
               : "memory");
}
__device__ inline void copy4(void* shared, const void* global, int valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid)
               : "memory");
}
// Closes the group of copies issued since the last commit.
__device__ inline void commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
// Waits until at most kPending of the newest groups are still on their way.
template <int kPending>
__device__ inline void wait_group() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

#else

template <int kWords>
__device__ inline void copy_words(void* shared, const void* global, int valid) {
  auto* to = static_cast<uint32_t*>(shared);
  const auto* from = static_cast<const uint32_t*>(global);
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    const int n_bytes = valid - i * 4;
    const uint32_t mask = n_bytes >= 4 ? ~0u : n_bytes <= 0 ? 0u : (1u << n_bytes * 8) - 1;
    to[i] = n_bytes > 0 ? from[i] & mask : 0u;
  }
}
__device__ inline void copy16(void* shared, const void* global, int valid) {
  copy_words<4>(shared, global, valid);
}
template <int kTo, int kFrom>
__device__ inline void copy16_at(uint32_t shared, const void* global, int valid) {
  copy_words<4>(__cvta_shared_to_generic(shared + kTo), static_cast<const uint8_t*>(global) + kFrom,
                valid);
}
__device__ inline void copy8(void* shared, const void* global, int valid) {
  copy_words<2>(shared, global, valid);
}
__device__ inline void copy4(void* shared, const void* global, int valid) {
  copy_words<1>(shared, global, valid);
}
__device__ inline void commit() {}
template <int kPending>
__device__ inline void wait_group() {}

#endif

}  // namespace flexq::float_copy
