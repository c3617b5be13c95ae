// The one symbol that libflexq_cuda.so exports.
#include "device/cuda/cuda_platform.h"
#include "device/cuda_backend.h"
#include "generated/flexq_build_config.h"

namespace flexq {
namespace {

CudaHostServices host_services;

// Never destroyed: threads may be inside it while the process ends.
CudaPlatform& platform() {
  static auto* const made =
      new CudaPlatform(linked_cuda_runtime(), FLEXQ_CUDA_SM_LIST, host_services);
  return *made;
}

Result<std::vector<int32_t>> usable_devices() {
  return platform().usable_devices();
}
Result<DeviceDescription> describe(int32_t number) {
  return platform().describe(number);
}
Result<std::shared_ptr<Device>> open(int32_t number, const std::string& kernels) {
  return platform().open(number, kernels);
}

constexpr CudaBackend kBackend = {FLEXQ_BUILD_ID, &usable_devices, &describe, &open};

}  // namespace
}  // namespace flexq

extern "C" __attribute__((visibility("default"))) const flexq::CudaBackend* flexq_cuda_backend(
    const flexq::CudaHostServices* host) {
  flexq::host_services = *host;
  return &flexq::kBackend;
}
