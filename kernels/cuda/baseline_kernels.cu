// What the products of other libraries need before they can be timed: operands and, for row-wise
// W8A8, an epilogue.
#include <cuda_fp16.h>

#include "kernels/cuda/benchmark_kernels.h"

namespace flexq {
namespace {

constexpr int32_t kThreads = 256;

// A hash of the position (the finalizer of MurmurHash3).
__device__ uint32_t random_word(int64_t i, uint32_t seed) {
  uint32_t x = static_cast<uint32_t>(i) * 2654435761u + seed * 0x9e3779b9u;
  x = (x ^ (x >> 16)) * 0x85ebca6bu;
  x = (x ^ (x >> 13)) * 0xc2b2ae35u;
  return x ^ (x >> 16);
}

__global__ void __launch_bounds__(kThreads)
    fill_random_kernel(CudaRandom kind, uint32_t seed, uint32_t* words, int64_t n) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * kThreads) {
    uint32_t word = random_word(i, seed);
    // Sign, two bits of the exponent and the mantissa stay random.
    if (kind == CudaRandom::kF16) word = (word & 0x8fff8fffu) + 0x28002800u;
    if (kind == CudaRandom::kFp8) word &= 0xbfbfbfbfu;
    if (kind == CudaRandom::kScales) word = (word & 0x007fffffu) | 0x3c000000u;
    words[i] = word;
  }
}

// Grid: (n_rows / 4 / kThreads rounded up, n_tokens). A thread has 4 neighbouring outputs.
__global__ void __launch_bounds__(kThreads)
    dequantize_kernel(const int4* sums, const float* sx, const float4* sw, int64_t n_quads,
                      uint2* out) {
  const int64_t quad = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (quad >= n_quads) return;
  const int64_t token = blockIdx.y;
  const int4 sum = sums[token * n_quads + quad];
  const float4 scale = sw[quad];
  const float token_scale = sx[token];
  const auto pair = [&](int32_t a, float scale_a, int32_t b, float scale_b) {
    const __half2 value = __floats2half2_rn(static_cast<float>(a) * token_scale * scale_a,
                                            static_cast<float>(b) * token_scale * scale_b);
    return *reinterpret_cast<const uint32_t*>(&value);
  };
  out[token * n_quads + quad] =
      make_uint2(pair(sum.x, scale.x, sum.y, scale.y), pair(sum.z, scale.z, sum.w, scale.w));
}

}  // namespace

cudaError_t cuda_fill_random(const CudaLaunch& where, CudaRandom kind, uint32_t seed, void* data,
                             int64_t bytes) {
  constexpr int32_t kBlocksPerSm = 8;
  return launch(where, fill_random_kernel, dim3(static_cast<uint32_t>(where.n_sms * kBlocksPerSm)),
                dim3(kThreads), 0, kind, seed, static_cast<uint32_t*>(data), bytes / 4);
}

cudaError_t cuda_dequantize(const CudaLaunch& where, const int32_t* sums, const float* sx,
                            const float* sw, int64_t n_tokens, int64_t n_rows, uint16_t* out) {
  const int64_t n_quads = n_rows / 4;
  const auto blocks = static_cast<uint32_t>((n_quads + kThreads - 1) / kThreads);
  return launch(where, dequantize_kernel, dim3(blocks, static_cast<uint32_t>(n_tokens)),
                dim3(kThreads), 0, reinterpret_cast<const int4*>(sums), sx,
                reinterpret_cast<const float4*>(sw), n_quads, reinterpret_cast<uint2*>(out));
}

}  // namespace flexq
