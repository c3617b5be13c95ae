#include "device/cuda/cuda_device.h"

#include "device/cuda/cuda_baselines.h"
#include "device/cuda/cuda_executor.h"
#include "device/cuda/cuda_linear_runner.h"
#include "device/cuda/cuda_read_runner.h"
#include "device/cuda/cuda_workspace.h"
#include "device/device_registry.h"

namespace flexq {
namespace {

// Dense int8 operations per cycle of one multiprocessor's tensor cores, from NVIDIA's architecture
// papers; fp16 with fp32 sums has half as many, on GeForce cards a quarter. 0: not known.
double tensor_operations_per_cycle(int32_t sm) {
  switch (sm) {
    case 75:
    case 86:
    case 89:
    case 120:
      return 2048;
    case 80:
    case 87:
      return 4096;
    case 90:
      return 8192;
    case 100:
      return 16384;
    default:
      return 0;
  }
}

}  // namespace

DeviceDescription describe_cuda(CudaSession& session, CudaFamily family) {
  const CudaTarget& target = session.target();
  DeviceDescription description;
  description.kind = DeviceKind::kCuda;
  description.id = target.id();
  description.name = target.name;
  description.kernels = kCudaKernelNames[static_cast<size_t>(family)];
  description.total_memory_bytes = target.total_memory_bytes;
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  if (session.enter().ok() &&
      session.check(session.runtime().mem_get_info(&free_bytes, &total_bytes), "free memory")
          .ok()) {
    description.free_memory_bytes = static_cast<int64_t>(free_bytes);
  }
  return description;
}

Result<std::unique_ptr<DeviceBuffer>> CudaDevice::allocate(int64_t bytes, const char* what) {
  FLEXQ_ASSIGN_OR_RETURN(std::unique_ptr<CudaBuffer> buffer,
                         CudaBuffer::allocate(session_, bytes, what));
  return std::unique_ptr<DeviceBuffer>(std::move(buffer));
}

Result<int64_t> CudaDevice::tensor_bytes(const DeviceTensorDesc& desc) const {
  FLEXQ_ASSIGN_OR_RETURN(const CudaTensorLayout layout, cuda_tensor_layout(desc, family_));
  return layout.total_bytes;
}

Status CudaDevice::store_rows(const DeviceTensorDesc& desc, int64_t row_begin, int64_t n_rows,
                              const uint8_t* values, const uint16_t* scales, uint8_t* destination) {
  FLEXQ_ASSIGN_OR_RETURN(const CudaTensorLayout layout, cuda_tensor_layout(desc, family_));
  return staging_.store(desc, layout, row_begin, n_rows, values, scales, destination);
}

Status CudaDevice::copy(uint8_t* to, const uint8_t* from, int64_t bytes) {
  FLEXQ_ASSIGN_OR_RETURN(const CudaStream stream, CudaStream::create(session_));
  FLEXQ_RETURN_IF_ERROR(
      session_->check(session_->runtime().memcpy_async(to, from, static_cast<size_t>(bytes),
                                                       cudaMemcpyDeviceToDevice, stream.get()),
                      "copying on the device"));
  return stream.synchronize("copying on the device");
}

DeviceMatrix CudaDevice::matrix_at(const DeviceTensorDesc& desc, const uint8_t* data) const {
  DeviceMatrix matrix;
  matrix.format = desc.is_vector ? WeightFormat::kF32 : desc.format;
  matrix.rows = desc.rows;
  matrix.cols = desc.cols;
  matrix.values = data;
  matrix.scale_multiplier = desc.scale_multiplier;
  // The desc was planned before, so its layout exists.
  const Result<CudaTensorLayout> layout = cuda_tensor_layout(desc, family_);
  if (layout.ok() && is_quantized(desc.format)) {
    matrix.scales = data + layout->scales_offset;
    matrix.layout = static_cast<int32_t>(layout->family);
  }
  return matrix;
}

Result<int64_t> CudaDevice::workspace_bytes(const ExecutorShape& shape) const {
  return carve_cuda_workspace(shape, nullptr, nullptr);
}

Result<std::unique_ptr<Executor>> CudaDevice::create_executor(const ExecutorShape& shape,
                                                              std::span<uint8_t> workspace,
                                                              std::span<uint8_t> pages,
                                                              ThreadPool&) {
  return CudaExecutor::create(session_, shape, workspace, pages);
}

Result<std::unique_ptr<LinearRunner>> CudaDevice::create_linear_runner(const LinearShape& shape,
                                                                       ThreadPool&) {
  return CudaLinearRunner::create(session_, shape);
}

Result<std::unique_ptr<ReadRunner>> CudaDevice::create_read_runner(ThreadPool&) {
  return CudaReadRunner::create(session_);
}

Result<std::unique_ptr<BaselineRunner>> CudaDevice::create_baselines() {
  return create_cuda_baselines(session_);
}

Result<TensorRates> CudaDevice::tensor_rates() {
  const CudaTarget& target = session_->target();
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  int kilohertz = 0;
  FLEXQ_RETURN_IF_ERROR(session_->check(
      session_->runtime().get_device_attribute(&kilohertz, cudaDevAttrClockRate, target.number),
      "the clock rate"));
  const double per_cycle = tensor_operations_per_cycle(target.sm);
  const double cycles = 1e3 * kilohertz * target.n_sms;
  return TensorRates{.int8 = per_cycle * cycles, .fp16 = per_cycle / 2 * cycles};
}

}  // namespace flexq
