// Times a kernel that reads memory and does nothing else.
#pragma once

#include <memory>

#include "device/cuda/cuda_timer.h"
#include "device/linear_runner.h"

namespace flexq {

class CudaReadRunner : public ReadRunner {
 public:
  static Result<std::unique_ptr<ReadRunner>> create(std::shared_ptr<CudaSession> session);
  Result<double> bandwidth(int64_t bytes) override;
  // By the grid that is fastest for these blocks.
  Result<double> time(std::span<const std::span<const uint8_t>> blocks, int32_t repeats) override;

 private:
  CudaReadRunner(std::shared_ptr<CudaSession> session, std::unique_ptr<CudaBuffer> sink,
                 CudaTimer timer)
      : session_(std::move(session)), sink_(std::move(sink)), timer_(std::move(timer)) {}

  const std::shared_ptr<CudaSession> session_;
  const std::unique_ptr<CudaBuffer> sink_;
  const CudaTimer timer_;
};

}  // namespace flexq
