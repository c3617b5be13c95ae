// W6Ax and W8Ax linear layers for few tokens, on INT8 tensor cores: bound by reading the weights.
#pragma once

#include "kernels/cuda/int8_linear_args.h"
#include "kernels/cuda/linear_select.h"

namespace flexq {

// weight_bits: 6 or 8. At most kInt8DecodeMaxTokens tokens. stages: 16-unit pieces of the weights
// in flight per CTA, 2 or 4. ctas_per_sm: CTAs that walk the row blocks together. Needs sm_80.
cudaError_t int8_linear_decode(const CudaLaunch& launch, const Int8LinearArgs& args,
                               int32_t weight_bits, int32_t stages, int32_t ctas_per_sm);

}  // namespace flexq
