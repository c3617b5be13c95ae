// W6Ax and W8Ax linear layers on the tensor cores of Hopper, five tokens and more.
#pragma once

#include <span>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/linear_select.h"

namespace flexq {

// As cuda_linear_int(), x in CodesOrder::kTensor. Needs sm_90a and wgmma_shared_bytes().
cudaError_t int8_linear_wgmma(const CudaLaunch& launch, std::span<const CudaLinearPart> parts,
                              CudaQuantized x, int64_t n_tokens, CudaStore store, WgmmaTile tile);

}  // namespace flexq
