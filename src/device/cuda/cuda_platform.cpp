#include "device/cuda/cuda_platform.h"

#include <unistd.h>

#include <iterator>

#include "device/cuda/cuda_device.h"
#include "device/cuda/cuda_status.h"
#include "device/device_registry.h"

namespace flexq {

Result<int32_t> CudaPlatform::count() {
  {
    const std::lock_guard lock(mutex_);
    if (process_ == 0) process_ = getpid();
    if (process_ != getpid()) {
      return Status::error(StatusCode::kInvalidState,
                           "CUDA: expected process %lld, which started it, found its fork %lld",
                           static_cast<long long>(process_), static_cast<long long>(getpid()));
    }
  }
  int n_devices = 0;
  FLEXQ_RETURN_IF_ERROR(cuda_start_status(runtime_, runtime_.get_device_count(&n_devices)));
  if (n_devices == 0) return cuda_start_status(runtime_, cudaErrorNoDevice);
  return n_devices;
}

Result<CudaTarget> CudaPlatform::target(int32_t number) {
  cudaDeviceProp properties = {};
  FLEXQ_RETURN_IF_ERROR(
      cuda_start_status(runtime_, runtime_.get_device_properties(&properties, number)));
  CudaTarget target;
  target.number = number;
  target.sm = properties.major * 10 + properties.minor;
  target.n_sms = properties.multiProcessorCount;
  target.name = properties.name;
  target.total_memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  if (!sm_list_covers(sm_list_, target.sm)) {
    return Status::error(StatusCode::kDeviceUnsupported,
                         "%s (%s): expected a GPU that code for SM %s runs on, found SM %d.%d",
                         target.id().c_str(), target.name.c_str(), sm_list_.c_str(),
                         properties.major, properties.minor);
  }
  return target;
}

Result<std::vector<int32_t>> CudaPlatform::usable_devices() {
  FLEXQ_ASSIGN_OR_RETURN(const int32_t n_devices, count());
  std::vector<int32_t> numbers;
  Status first_error;
  for (int32_t number = 0; number < n_devices; ++number) {
    Result<CudaTarget> found = target(number);
    if (found.ok()) {
      numbers.push_back(number);
    } else if (first_error.ok()) {
      first_error = std::move(found).status();
    }
  }
  if (numbers.empty()) return first_error;
  return numbers;
}

Result<std::shared_ptr<CudaSession>> CudaPlatform::session(int32_t number) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = sessions_.find(number);
    if (known != sessions_.end()) return known->second;
  }
  FLEXQ_ASSIGN_OR_RETURN(const int32_t n_devices, count());
  if (number < 0 || number >= n_devices) {
    return Status::error(StatusCode::kNoDevice, "expected a CUDA device from 0 to %d, found %d",
                         n_devices - 1, number);
  }
  FLEXQ_ASSIGN_OR_RETURN(CudaTarget found, target(number));
  const std::lock_guard lock(mutex_);
  std::shared_ptr<CudaSession>& session = sessions_[number];
  if (session == nullptr) {
    session = std::make_shared<CudaSession>(runtime_, host_, std::move(found), process_);
  }
  return session;
}

Result<DeviceDescription> CudaPlatform::describe(int32_t number) {
  FLEXQ_ASSIGN_OR_RETURN(const std::shared_ptr<CudaSession> found, session(number));
  return describe_cuda(*found, CudaFamily::kInt8);
}

Result<std::shared_ptr<Device>> CudaPlatform::open(int32_t number, const std::string& kernels) {
  FLEXQ_ASSIGN_OR_RETURN(std::shared_ptr<CudaSession> found, session(number));
  FLEXQ_RETURN_IF_ERROR(found->enter());
  for (size_t i = 0; i < std::size(kCudaKernelNames); ++i) {
    if (kernels == kCudaKernelNames[i]) {
      return std::shared_ptr<Device>(
          std::make_shared<CudaDevice>(std::move(found), static_cast<CudaFamily>(i)));
    }
  }
  return Status::error(StatusCode::kUnsupportedValue,
                       "cuda.kernels: expected auto, int8 or btc, found \"%s\"", kernels.c_str());
}

}  // namespace flexq
