// Finds the CUDA backend: a library of a known name in the folder of the library (or program) that
// holds this code, opened by its absolute path and by no search path, at the first call.
#pragma once

#include "base/status.h"
#include "device/cuda_backend.h"

namespace flexq {

// The backend of this build. kNoDevice where there is none or it cannot be opened,
// kDeviceUnsupported where it comes from another build. Once found it stays open.
Result<const CudaBackend*> cuda_backend();

// Test hook: stands in for the backend's library; null brings the search back.
void set_cuda_backend(const CudaBackend* backend);

}  // namespace flexq
