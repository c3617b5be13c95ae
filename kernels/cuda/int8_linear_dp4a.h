// W6Ax and W8Ax linear layers without tensor cores.
#pragma once

#include "kernels/cuda/int8_linear_args.h"

namespace flexq {

// weight_bits: 6 or 8. Any number of tokens. Needs sm_61.
cudaError_t int8_linear_dp4a(const CudaLaunch& launch, const Int8LinearArgs& args,
                             int32_t weight_bits);

}  // namespace flexq
