// CpuDevice's LinearRunner: one linear layer at a time, on random activations.
#include <chrono>

#include "base/checked.h"
#include "base/memory.h"
#include "device/cpu/cpu_device.h"
#include "device/cpu/cpu_linear.h"

namespace flexq {
namespace {

class CpuLinearRunner : public LinearRunner {
 public:
  CpuLinearRunner(const CpuKernels& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  Status allocate(int32_t n_tokens, int64_t n_cols, int64_t n_rows) {
    const int64_t groups = ceil_div(n_cols, kGroupSize);
    const auto buffer = [&](HostBuffer& out, int64_t bytes_per_token) -> Status {
      FLEXQ_ASSIGN_OR_RETURN(
          out, HostBuffer::allocate(n_tokens * bytes_per_token, "benchmark activations"));
      return Status();
    };
    FLEXQ_RETURN_IF_ERROR(buffer(input_, n_cols * 4));
    FLEXQ_RETURN_IF_ERROR(buffer(output_, n_rows * 4));
    FLEXQ_RETURN_IF_ERROR(buffer(codes_, groups * kGroupSize));
    FLEXQ_RETURN_IF_ERROR(buffer(scales_, groups * 4));
    FLEXQ_RETURN_IF_ERROR(buffer(sums_, groups * 4));
    n_tokens_ = n_tokens;
    n_cols_ = n_cols;
    // A linear congruential generator (Knuth's MMIX): uniform in [-1, 1).
    uint64_t state = 1;
    for (int64_t i = 0; i < n_tokens * n_cols; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      reinterpret_cast<float*>(input_.data())[i] =
          static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f;
    }
    return Status();
  }

  Result<double> time(std::span<const DeviceLinear> linears) override {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begin = Clock::now();
    for (const DeviceLinear& linear : linears)
      run(linear);
    const std::chrono::duration<double, std::micro> taken = Clock::now() - begin;
    return taken.count() / static_cast<double>(linears.size());
  }

 private:
  void run(const DeviceLinear& linear) {
    const CpuLinear engine(
        kernels_,
        {reinterpret_cast<int8_t*>(codes_.data()), reinterpret_cast<float*>(scales_.data()),
         reinterpret_cast<int32_t*>(sums_.data())},
        pool_);
    LinearInput input{reinterpret_cast<const float*>(input_.data()), n_cols_, n_tokens_};
    engine.quantize(input, linear.activation_bits);
    engine.for_blocks(CpuLinear::block_count(linear), [&](int64_t begin, int64_t end) {
      engine.apply(linear, input, begin, end, reinterpret_cast<float*>(output_.data()));
    });
  }

  const CpuKernels& kernels_;
  ThreadPool& pool_;
  int32_t n_tokens_ = 0;
  int64_t n_cols_ = 0;
  HostBuffer input_, output_, codes_, scales_, sums_;
};

}  // namespace

Result<std::unique_ptr<LinearRunner>> CpuDevice::create_linear_runner(int32_t n_tokens,
                                                                      int64_t n_cols,
                                                                      int64_t n_rows,
                                                                      ThreadPool& pool) {
  auto runner = std::make_unique<CpuLinearRunner>(kernels_, pool);
  FLEXQ_RETURN_IF_ERROR(runner->allocate(n_tokens, n_cols, n_rows));
  return std::unique_ptr<LinearRunner>(std::move(runner));
}

}  // namespace flexq
