// What libflexq.so and libflexq_cuda.so know of each other: one C entry that returns this table.
// C++ objects cross the border, so both must come from the same build: the table begins with the
// build id, and nothing behind it is read where that differs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "device/device.h"

namespace flexq {

// What the backend needs from its host: it has a copy of src/base of its own, in which nobody
// listens.
struct CudaHostServices {
  // A message of LogLevel `level` without a newline.
  void (*log)(int32_t level, const char* text) = nullptr;
};

struct CudaBackend {
  const char* build_id;
  // CUDA devices that this build and driver can use, by their CUDA numbers; where there is none,
  // the error says why.
  Result<std::vector<int32_t>> (*usable_devices)();
  Result<DeviceDescription> (*describe)(int32_t number);
  // kernels: a name of kCudaKernelNames.
  Result<std::shared_ptr<Device>> (*open)(int32_t number, const std::string& kernels);
};

inline constexpr const char* kCudaBackendFile = "libflexq_cuda.so";
inline constexpr const char* kCudaBackendEntry = "flexq_cuda_backend";
using CudaBackendEntry = const CudaBackend* (*)(const CudaHostServices* host);

}  // namespace flexq
