// W6Ax and W8Ax linear layers for few tokens, on INT8 tensor cores: bound by reading the weights.
#pragma once

#include "kernels/cuda/int8_linear_args.h"
#include "kernels/cuda/linear_select.h"

namespace flexq {

// weight_bits: 6 or 8. At most kInt8DecodeMaxTokens tokens. n_stages: rounds of weights in flight.
// resident: the activations stay in shared memory. Needs sm_80 and int8_decode_shared_bytes().
cudaError_t int8_linear_decode(const CudaLaunch& launch, const Int8LinearArgs& args,
                               int32_t weight_bits, int32_t n_stages, bool resident);

}  // namespace flexq
