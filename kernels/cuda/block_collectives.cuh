// Reductions and scans over all threads of a CTA in a fixed order: pairs of lanes, then pairs of
// warps, so that sums of doubles are the same in every run.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace flexq::sampling {

inline constexpr int kMostWarps = 32;

struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// One value per warp. A collective may be called again at once: it ends with a barrier.
template <typename T>
struct BlockStorage {
  T of_warp[kMostWarps];
};

// combine over all kThreads threads, for all of them. `nothing` is what absent warps count as.
template <int kThreads, typename T, typename Combine>
__device__ T block_reduce(T value, T nothing, const Combine& combine, BlockStorage<T>& storage) {
  static_assert(kThreads % 32 == 0 && kThreads / 32 <= kMostWarps, "whole warps, at most 32");
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2)
    value = combine(value, __shfl_xor_sync(~0u, value, mask));
  if (lane == 0) storage.of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  T result = lane < kThreads / 32 ? storage.of_warp[lane] : nothing;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2)
    result = combine(result, __shfl_xor_sync(~0u, result, mask));
  __syncthreads();
  return result;
}

// Sum of the values of threads 0 .. threadIdx.x.
template <int kThreads, typename T>
__device__ T block_inclusive_sum(T value, BlockStorage<T>& storage) {
  static_assert(kThreads % 32 == 0 && kThreads / 32 <= kMostWarps, "whole warps, at most 32");
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const T other = __shfl_up_sync(~0u, value, distance);
    if (lane >= distance) value = value + other;
  }
  if (lane == 31) storage.of_warp[warp] = value;
  __syncthreads();
  T before = T{};
  for (int w = 0; w < warp; ++w)
    before = before + storage.of_warp[w];
  __syncthreads();
  return before + value;
}

}  // namespace flexq::sampling
