// How a quantized matrix is laid out in device memory. No CUDA header needed.
#pragma once

#include <cstdint>

namespace flexq {

enum class CudaFamily : int32_t {
  kInt8 = 0,    // kernels/layout/cuda_int8_layout.h
  kBinary = 1,  // kernels/layout/cuda_btc_layout.h: bit planes for binary tensor cores
};

}  // namespace flexq
