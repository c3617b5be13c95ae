// One linear layer at a time, on random activations: what kernel benchmarks time.
#pragma once

#include <memory>
#include <vector>

#include "device/cuda/cuda_timer.h"
#include "device/linear_runner.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/linear_select.h"

namespace flexq {

class CudaLinearRunner : public LinearRunner {
 public:
  static Result<std::unique_ptr<LinearRunner>> create(std::shared_ptr<CudaSession> session,
                                                      const LinearShape& shape);
  // As a model multiplies: where the kernel quantizes its input itself, that is in the time; else
  // quantization is part of the step before and is done once, ahead of the clock.
  Result<double> time(std::span<const DeviceLinear> copies, int32_t repeats) override;
  Configurations configurations(const DeviceLinear& linear) const override;
  Result<double> time_configuration(size_t index, std::span<const DeviceLinear> copies,
                                    int32_t repeats) override;

 private:
  CudaLinearRunner(std::shared_ptr<CudaSession> session, const LinearShape& shape, CudaTimer timer)
      : session_(std::move(session)), shape_(shape), timer_(std::move(timer)) {}
  Status allocate();
  Status fill_input();
  // What the kernels' choice depends on.
  LinearProblem problem(const DeviceLinear& linear) const;
  Status quantize_input(const DeviceLinear& linear);

  // One of the kernels that can compute a layer.
  struct Way {
    enum class Kind { kFloat, kFusedQuantizing, kFused, kConfig };
    Kind kind = Kind::kFloat;
    LinearConfig config = {};  // of kConfig
    bool chosen = false;       // what a model takes
  };
  // One of them is chosen.
  std::vector<Way> ways(const DeviceLinear& linear) const;
  Status multiply(const Way& way, const DeviceLinear& linear);
  Result<double> time_way(const Way& way, std::span<const DeviceLinear> copies, int32_t repeats);

  const std::shared_ptr<CudaSession> session_;
  const LinearShape shape_;
  std::unique_ptr<CudaBuffer> memory_;  // all of what follows
  CudaRows input_, output_;             // (n_tokens, n_cols), (n_tokens, n_rows)
  CudaQuantized codes_;                 // (n_tokens, n_cols)
  uint8_t* scratch_ = nullptr;
  const CudaTimer timer_;  // last: its destructor waits
};

}  // namespace flexq
