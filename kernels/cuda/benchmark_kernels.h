// Kernels that benchmarks need beside the ones they time. Pointers are device memory; every
// function queues work on a stream and returns the launch's error.
#pragma once

#include <cstdint>

#include "kernels/cuda/cuda_runtime.h"

namespace flexq {

// Thread blocks per multiprocessor that cuda_read_only() is worth timing with: which one is fastest
// depends on the bytes.
inline constexpr int32_t kReadOnlyBlocks[] = {2, 4, 8};

// Reads `bytes`, a multiple of 16 from a multiple of 16 on, and keeps nothing: the least that any
// kernel needing these bytes can take. `sink`: 4 bytes. (bandwidth_kernels.cu)
cudaError_t cuda_read_only(const CudaLaunch& launch, const void* data, int64_t bytes,
                           int32_t blocks_per_sm, uint32_t* sink);

enum class CudaRandom : int32_t {
  kBytes = 0,   // any bit
  kF16 = 1,     // magnitudes of 2^-5 to 2^-1
  kFp8 = 2,     // e4m3, finite, magnitudes below 2
  kScales = 3,  // fp32 of 2^-7 to 2^-6
};
// Fills `bytes`, a multiple of 4, with random values of one kind; the same for the same seed.
// (baseline_kernels.cu)
cudaError_t cuda_fill_random(const CudaLaunch& launch, CudaRandom kind, uint32_t seed, void* data,
                             int64_t bytes);

// What row-wise W8A8 adds to an integer product: out[t, n] = fp16(sums[t, n] * sx[t] * sw[n]).
// sums and out: (n_tokens, n_rows), n_rows a multiple of 4; sx: (n_tokens); sw: (n_rows).
// (baseline_kernels.cu)
cudaError_t cuda_dequantize(const CudaLaunch& launch, const int32_t* sums, const float* sx,
                            const float* sw, int64_t n_tokens, int64_t n_rows, uint16_t* out);

}  // namespace flexq
