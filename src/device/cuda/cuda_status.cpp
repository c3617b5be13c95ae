#include "device/cuda/cuda_status.h"

#include <charconv>
#include <string_view>

namespace flexq {
namespace {

std::string version_text(int32_t version) {  // CUDA's form: 12040 is 12.4
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

bool is_device_lost(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorDeviceUninitialized:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
    case cudaErrorCudartUnloading:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

std::string cuda_error_text(const CudaRuntime& runtime, cudaError_t error) {
  return std::string(runtime.get_error_name(error)) + " (" + runtime.get_error_string(error) + ")";
}

Status cuda_start_status(const CudaRuntime& runtime, cudaError_t error) {
  if (error == cudaSuccess) return Status();
  static_cast<void>(runtime.get_last_error());
  if (error == cudaErrorMemoryAllocation) return Status::out_of_memory("CUDA driver", 0);
  if (is_device_lost(error)) {
    return Status::error(StatusCode::kDeviceLost, "CUDA: %s",
                         cuda_error_text(runtime, error).c_str());
  }
  if (error == cudaErrorInsufficientDriver || error == cudaErrorStubLibrary) {
    int found = 0;
    if (runtime.driver_get_version(&found) != cudaSuccess) found = 0;
    return Status::error(found == 0 ? StatusCode::kNoDevice : StatusCode::kDeviceUnsupported,
                         "CUDA driver: expected one for CUDA %s or newer, found %s",
                         version_text(CUDART_VERSION).c_str(),
                         found == 0 ? "none" : ("one for CUDA " + version_text(found)).c_str());
  }
  if (error == cudaErrorNoDevice) {
    return Status::error(StatusCode::kNoDevice, "CUDA: expected a device, found none");
  }
  return Status::error(StatusCode::kNoDevice, "CUDA: expected a usable driver, found %s",
                       cuda_error_text(runtime, error).c_str());
}

bool sm_list_covers(const std::string& sm_list, int32_t sm) {
  std::string_view rest = sm_list;
  while (!rest.empty()) {
    const std::string_view entry = rest.substr(0, rest.find(' '));
    rest.remove_prefix(entry.size() == rest.size() ? rest.size() : entry.size() + 1);
    int32_t built = 0;
    const char* end = entry.data() + entry.size();
    const auto [parsed, error] = std::from_chars(entry.data(), end, built);
    if (error != std::errc()) continue;
    const bool exact = parsed != end;
    if (built == sm || (!exact && built / 10 == sm / 10 && built <= sm)) return true;
  }
  return false;
}

}  // namespace flexq
