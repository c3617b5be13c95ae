// CUDA as this process found it: which devices there are, and the one session of each.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.h"
#include "device/cuda/cuda_session.h"
#include "device/device.h"

namespace flexq {

class CudaPlatform {
 public:
  // sm_list: what the kernels were compiled for, "80 90a".
  CudaPlatform(const CudaRuntime& runtime, std::string sm_list, const CudaHostServices& host)
      : runtime_(runtime), sm_list_(std::move(sm_list)), host_(host) {}

  // Not empty; where no device can be used the status says why.
  Result<std::vector<int32_t>> usable_devices();
  Result<DeviceDescription> describe(int32_t number);
  // kernels: a name of kCudaKernelNames.
  Result<std::shared_ptr<Device>> open(int32_t number, const std::string& kernels);

 private:
  // How many devices the driver knows; the first call starts CUDA in this process.
  Result<int32_t> count();
  Result<CudaTarget> target(int32_t number);
  // A device's session, the same from the first use on: so that a lost device stays lost.
  Result<std::shared_ptr<CudaSession>> session(int32_t number);

  const CudaRuntime& runtime_;
  const std::string sm_list_;
  const CudaHostServices host_;
  std::mutex mutex_;
  int64_t process_ = 0;  // that started CUDA; 0: none yet
  std::map<int32_t, std::shared_ptr<CudaSession>> sessions_;
};

}  // namespace flexq
