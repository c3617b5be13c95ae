// The devices of this process by name. The CPU is always there and always first; what else there is
// depends on backends found beside this library.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "device/device.h"

namespace flexq {

// Kernel sets by kind of device; "auto" is each kind's own choice.
struct DeviceOptions {
  std::string cpu_kernels = "auto";   // a name of cpu_kernel_names()
  std::string cuda_kernels = "auto";  // a name of kCudaKernelNames
};

// Families of kernels for W6 layers with quantized activations: INT8 tensor cores, or bit planes on
// binary tensor cores. "auto" is the first.
inline constexpr const char* kCudaKernelNames[] = {"int8", "btc"};

// Devices that this process can use, at least 1.
int32_t count_devices();
// kInvalidArgument for an index outside [0, count_devices()).
Result<DeviceDescription> describe_device(int32_t index);

// `id`: "cpu"; "cuda" (the first) or "cuda:N"; "auto": the first CUDA device where there is one
// that this process can use, else the CPU. kNoDevice and kDeviceUnsupported say what was asked for,
// what there is, and why not.
Result<std::shared_ptr<Device>> open_device(const std::string& id, const DeviceOptions& options);

}  // namespace flexq
