// CpuDevice's LinearRunner: one linear layer at a time, on random activations.
#include <algorithm>
#include <chrono>
#include <vector>

#include "base/checked.h"
#include "base/memory.h"
#include "device/cpu/cpu_device.h"
#include "device/cpu/cpu_linear.h"

namespace flexq {
namespace {

class CpuLinearRunner : public LinearRunner {
 public:
  CpuLinearRunner(const CpuKernels& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  Status allocate(const LinearShape& shape) {
    const auto [n_rows, n_cols, n_tokens] = shape;
    const int64_t groups = ceil_div(n_cols, kGroupSize);
    const auto buffer = [&](HostBuffer& out, int64_t bytes_per_token) -> Status {
      FLEXQ_ASSIGN_OR_RETURN(
          out, HostBuffer::allocate(shape.n_tokens * bytes_per_token, "benchmark activations"));
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

  // One call is one measurement: that is long enough for the host's clock.
  Result<double> time(std::span<const DeviceLinear> copies, int32_t repeats) override {
    using Clock = std::chrono::steady_clock;
    std::vector<double> times;
    for (int32_t repeat = 0; repeat < repeats; ++repeat) {
      const DeviceLinear& linear = copies[next_++ % copies.size()];
      const Clock::time_point begin = Clock::now();
      run(linear);
      const std::chrono::duration<double, std::micro> taken = Clock::now() - begin;
      times.push_back(taken.count());
    }
    const auto middle = times.begin() + static_cast<ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
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
  size_t next_ = 0;  // of the copies
};

}  // namespace

Result<std::unique_ptr<LinearRunner>> CpuDevice::create_linear_runner(const LinearShape& shape,
                                                                      ThreadPool& pool) {
  auto runner = std::make_unique<CpuLinearRunner>(kernels_, pool);
  FLEXQ_RETURN_IF_ERROR(runner->allocate(shape));
  return std::unique_ptr<LinearRunner>(std::move(runner));
}

Result<std::unique_ptr<BaselineRunner>> CpuDevice::create_baselines() {
  return Status::error(StatusCode::kUnsupportedValue, "cuBLASLt: expected a CUDA device");
}

}  // namespace flexq
