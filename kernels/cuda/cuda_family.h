// How a quantized matrix and the activations it meets are laid out in device memory. No CUDA header
// needed.
#pragma once

#include <cstdint>

namespace flexq {

enum class CudaFamily : int32_t {
  kInt8 = 0,    // kernels/layout/cuda_int8_layout.h
  kBinary = 1,  // kernels/layout/cuda_btc_layout.h: bit planes for binary tensor cores
};

// How the 128 codes of a group of activations lie in memory.
enum class CodesOrder : int32_t {
  kNatural = 0,  // by column
  kTensor = 1,   // in words of 4 codes, cuda_int8::tensor_word(): the B operand of wgmma
};

}  // namespace flexq
