// Family A: W6A6 and W6A8 linear layers on binary tensor cores, and packing for them.
// cuda_kernels.h holds the contract they keep: exact int32 group dots and its order of sums.
#pragma once

#include <cstdint>

#include "kernels/cuda/cuda_kernels.h"

namespace flexq {

// Packs rows [row_begin, row_begin + n_rows) of an (N, K) matrix of 6-bit codes into
// kernels/layout/cuda_btc_layout.h; row_begin is a multiple of 16, n_rows too unless the range ends
// at row N. All pointers are device memory.
//   codes          (n_rows, K) of this range, each in [-32, 31]; scales: (n_rows, G) fp16
//   packed_codes   cuda_btc::codes_bytes(N, K), packed_scales: cuda_btc::scales_bytes(N, K), of the
//                  whole matrix
cudaError_t cuda_pack_btc_rows(const CudaLaunch& launch, const int8_t* codes,
                               const uint16_t* scales, int64_t row_begin, int64_t n_rows, int64_t N,
                               int64_t K, uint8_t* packed_codes, uint8_t* packed_scales);

// out (n_tokens, N) = or += W x + bias, W of kInt6Group in the binary layout. Fastest at one token;
// correct for any number. bits: 6 or 8, of the activations (both cost the same).
cudaError_t cuda_linear_btc(const CudaLaunch& launch, const CudaMatrix& w, CudaQuantized x,
                            int32_t bits, int64_t n_tokens, const float* bias, CudaStore store,
                            CudaRows out, uint8_t* scratch);
int64_t cuda_linear_btc_scratch_bytes(int64_t n_rows, int64_t n_cols, int64_t n_tokens);

}  // namespace flexq
