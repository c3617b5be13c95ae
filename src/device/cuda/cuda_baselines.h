// The products of cuBLASLt, timed as ours are.
#pragma once

#include <memory>

#include "device/cuda/cuda_session.h"
#include "device/linear_runner.h"

namespace flexq {

// Looks for the library at the path in the environment variable FLEXQ_CUBLASLT, a file or a folder,
// or where there is none in the usual places. kNotFound, kUnsupportedVersion.
Result<std::unique_ptr<BaselineRunner>> create_cuda_baselines(std::shared_ptr<CudaSession> session);

}  // namespace flexq
