#include "device/cuda/cuda_tensor.h"

#include "base/checked.h"
#include "kernels/layout/cuda_int8_layout.h"

namespace flexq {

int64_t cuda_stored_cols(const DeviceTensorDesc& desc) {
  return desc.is_vector ? desc.cols : cuda_padded_cols(desc.cols);
}

Result<CudaTensorLayout> cuda_tensor_layout(const DeviceTensorDesc& desc, CudaFamily family) {
  // Padded to whole units of every layout, so that nothing below wraps when this does not.
  CheckedSize bound(desc.rows);
  bound.align_up(cuda_int8::kUnitRows).mul(CheckedSize(desc.cols).align_up(kGroupSize).value());
  bound.mul(sizeof(float)).align_up(kCudaTensorAlignment).mul(2);
  if (!bound.valid()) {
    return Status::error(StatusCode::kLimitExceeded, "a tensor of %lld x %lld does not fit memory",
                         static_cast<long long>(desc.rows), static_cast<long long>(desc.cols));
  }
  CudaTensorLayout layout;
  if (!is_quantized(desc.format)) {
    const int64_t bytes = desc.is_vector ? int64_t{sizeof(float)} : element_bytes(desc.format);
    layout.total_bytes = align_up(desc.rows * cuda_stored_cols(desc) * bytes, kCudaTensorAlignment);
    return layout;
  }
  int64_t scales_bytes = 0;
  if (is_grouped(desc.format)) {
    // Both families take the same bytes: 16 rows x 128 columns in 1536 at 6 bits.
    if (desc.format == WeightFormat::kInt6Group && desc.activation_bits < 16) {
      layout.family = family;
    }
    layout.scales_offset =
        align_up(cuda_int8::codes_bytes(desc.rows, desc.cols, weight_bits(desc.format)),
                 kCudaTensorAlignment);
    scales_bytes = cuda_int8::scales_bytes(desc.rows, desc.cols);
  } else {
    layout.scales_offset = align_up(desc.rows * cuda_stored_cols(desc), kCudaTensorAlignment);
    scales_bytes = desc.rows * int64_t{sizeof(float)};
  }
  layout.total_bytes = layout.scales_offset + align_up(scales_bytes, kCudaTensorAlignment);
  return layout;
}

CudaMatrix cuda_matrix(const DeviceMatrix& matrix) {
  CudaMatrix out;
  out.format = matrix.format;
  out.family = static_cast<CudaFamily>(matrix.layout);
  out.rows = matrix.rows;
  out.cols = matrix.cols;
  out.values = matrix.values;
  out.scales = matrix.scales;
  out.scale_multiplier = matrix.scale_multiplier;
  return out;
}

}  // namespace flexq
