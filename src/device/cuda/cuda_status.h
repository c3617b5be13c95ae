// What a cudaError_t means to FlexQ.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/cuda/cuda_runtime.h"

namespace flexq {

// Errors after which no call on the device succeeds until the process ends (CUDA calls them
// sticky).
bool is_device_lost(cudaError_t error);

// "NAME (DESCRIPTION)"
std::string cuda_error_text(const CudaRuntime& runtime, cudaError_t error);

// Errors of calls that no device is behind yet: no driver, one too old, no device.
Status cuda_start_status(const CudaRuntime& runtime, cudaError_t error);

// Whether code compiled for the SMs of `sm_list` ("80 90a") runs on a device of compute capability
// sm / 10 . sm % 10: one of the same major version and no newer minor one; those with a letter on
// exactly theirs.
bool sm_list_covers(const std::string& sm_list, int32_t sm);

}  // namespace flexq
