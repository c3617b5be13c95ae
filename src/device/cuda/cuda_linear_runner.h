// One linear layer at a time, on random activations: what kernel benchmarks time.
#pragma once

#include <memory>

#include "device/cuda/cuda_buffer.h"
#include "kernels/cuda/cuda_kernels.h"

namespace flexq {

class CudaLinearRunner : public LinearRunner {
 public:
  static Result<std::unique_ptr<LinearRunner>> create(std::shared_ptr<CudaSession> session,
                                                      int32_t n_tokens, int64_t n_cols,
                                                      int64_t n_rows);
  // The device's own clock, around the multiplications alone: quantization is part of the step
  // before in a model and is done once, ahead of the clock.
  Result<double> time(std::span<const DeviceLinear> linears) override;

 private:
  explicit CudaLinearRunner(std::shared_ptr<CudaSession> session) : session_(std::move(session)) {}
  Status allocate(int32_t n_tokens, int64_t n_cols, int64_t n_rows);
  Status multiply(const DeviceLinear& linear);

  const std::shared_ptr<CudaSession> session_;
  int32_t n_tokens_ = 0;
  int64_t n_cols_ = 0;
  std::unique_ptr<CudaBuffer> memory_;  // all of what follows
  CudaRows input_, output_;             // (n_tokens, n_cols), (n_tokens, n_rows)
  CudaQuantized codes_;                 // (n_tokens, n_cols)
  uint8_t* scratch_ = nullptr;
  CudaEvent begin_, end_;
  CudaStream stream_;  // last: its destructor waits
};

}  // namespace flexq
