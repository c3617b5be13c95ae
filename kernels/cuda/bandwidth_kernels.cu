// How fast memory can be read.
#include "kernels/cuda/benchmark_kernels.h"

namespace flexq {
namespace {

constexpr int32_t kThreads = 256;
constexpr int32_t kLoads = 4;  // in flight per thread, 16 bytes each
constexpr int64_t kTile = int64_t{kThreads} * kLoads;

__device__ uint4 load_streaming(const uint4* from) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

// data: (n), read once, tiles of kTile dealt to the blocks in turn.
// Grid: as many blocks as run at a time; kThreads threads; no shared memory.
// The sum of all words goes to `sink` where it has one value of 2^32: never in practice, and the
// compiler cannot know.
__global__ void __launch_bounds__(kThreads)
    read_only_kernel(const uint4* data, int64_t n, uint32_t* sink) {
  uint32_t sum = 0;
  for (int64_t tile = blockIdx.x * kTile; tile < n; tile += gridDim.x * kTile) {
    const int64_t first = tile + threadIdx.x;
    uint4 values[kLoads] = {};
#pragma unroll
    for (int32_t i = 0; i < kLoads; ++i) {
      if (first + i * kThreads < n) values[i] = load_streaming(data + first + i * kThreads);
    }
#pragma unroll
    for (int32_t i = 0; i < kLoads; ++i)
      sum += values[i].x ^ values[i].y ^ values[i].z ^ values[i].w;
  }
  if (sum == 0x9e3779b9u) *sink = sum;
}

}  // namespace

cudaError_t cuda_read_only(const CudaLaunch& where, const void* data, int64_t bytes,
                           int32_t blocks_per_sm, uint32_t* sink) {
  return launch(where, read_only_kernel, dim3(static_cast<uint32_t>(where.n_sms * blocks_per_sm)),
                dim3(kThreads), 0, static_cast<const uint4*>(data), bytes / 16, sink);
}

}  // namespace flexq
