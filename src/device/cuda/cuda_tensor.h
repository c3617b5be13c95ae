// How tensors lie in CUDA memory, and the same as kernels see it.
//   vectors            fp32
//   dense matrices     rows padded with zeros to cuda_padded_cols(), in the tensor's format
//   kInt8Row           codes like a dense matrix, behind them one fp32 scale per row
//   grouped formats    packed codes, behind them packed fp16 scales (kernels/layout)
#pragma once

#include <cstdint>

#include "base/status.h"
#include "device/device.h"
#include "kernels/cuda/cuda_kernels.h"

namespace flexq {

// Tensors, and the scales inside them, start on a multiple of this: two cache lines, what the bulk
// copies of the kernels like best.
inline constexpr int64_t kCudaTensorAlignment = 256;

struct CudaTensorLayout {
  CudaFamily family = CudaFamily::kInt8;  // of grouped formats
  int64_t scales_offset = 0;              // of quantized formats
  int64_t total_bytes = 0;                // a multiple of kCudaTensorAlignment
};

// `family`: the kernels chosen for 6-bit layers whose activations are quantized; all else is kInt8.
// kLimitExceeded where the sizes do not fit 63 bits.
Result<CudaTensorLayout> cuda_tensor_layout(const DeviceTensorDesc& desc, CudaFamily family);

// Elements of one stored row of a matrix that is not grouped.
int64_t cuda_stored_cols(const DeviceTensorDesc& desc);

CudaMatrix cuda_matrix(const DeviceMatrix& matrix);

}  // namespace flexq
