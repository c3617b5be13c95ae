// In place of cuda_baselines.cpp where the toolkit has no cublasLt.h.
#include "device/cuda/cuda_baselines.h"

namespace flexq {

Result<std::unique_ptr<BaselineRunner>> create_cuda_baselines(std::shared_ptr<CudaSession>) {
  return Status::error(StatusCode::kNotFound,
                       "cuBLASLt: expected a build with cublasLt.h, found one without");
}

}  // namespace flexq
