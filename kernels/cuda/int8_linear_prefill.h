// W6Ax and W8Ax linear layers for many tokens, on INT8 tensor cores: bound by arithmetic.
#pragma once

#include "kernels/cuda/int8_linear_args.h"
#include "kernels/cuda/linear_select.h"

namespace flexq {

// weight_bits: 6 or 8. Any number of tokens. Needs sm_80.
cudaError_t int8_linear_prefill(const CudaLaunch& launch, const Int8LinearArgs& args,
                                int32_t weight_bits, Int8Tile tile);

}  // namespace flexq
