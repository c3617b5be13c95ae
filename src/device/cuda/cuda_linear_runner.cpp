#include "device/cuda/cuda_linear_runner.h"

#include <algorithm>

#include "base/checked.h"
#include "device/cuda/cuda_tensor.h"
#include "device/cuda/cuda_workspace.h"
#include "device/workspace_carver.h"
#include "kernels/cuda/linear_select.h"

namespace flexq {
namespace {

constexpr double kGraphUs = 2000;

struct RunnerBuffers {
  CudaRows input, output;
  CudaQuantized codes;
  uint8_t* scratch = nullptr;
};

int64_t carve(const LinearShape& shape, uint8_t* base, RunnerBuffers& out) {
  const auto [n_rows, n_cols, n_tokens] = shape;
  WorkspaceCarver carver(base, kCudaTensorAlignment);
  out.input.stride = align_up(n_cols, kCudaRowAlignment);
  out.output.stride = align_up(n_rows, kCudaRowAlignment);
  carver.take(out.input.data, n_tokens, out.input.stride);
  carver.take(out.output.data, n_tokens, out.output.stride);
  const int64_t groups = ceil_div(n_cols, kGroupSize);
  carver.take(out.codes.codes, n_tokens, groups * kGroupSize);
  carver.take(out.codes.scales, n_tokens, groups);
  carver.take(out.scratch, 1,
              std::max(cuda_linear_int_scratch_bytes(n_rows, n_cols, n_tokens),
                       cuda_linear_float_scratch_bytes(n_rows, n_cols, n_tokens)));
  return carver.used().value();
}

bool is_quantized_input(const DeviceLinear& linear) {
  return is_grouped(linear.weight.format) && linear.activation_bits < 16;
}

}  // namespace

Result<std::unique_ptr<LinearRunner>> CudaLinearRunner::create(std::shared_ptr<CudaSession> session,
                                                               const LinearShape& shape) {
  FLEXQ_ASSIGN_OR_RETURN(CudaTimer timer, CudaTimer::create(session));
  std::unique_ptr<CudaLinearRunner> runner(
      new CudaLinearRunner(std::move(session), shape, std::move(timer)));
  FLEXQ_RETURN_IF_ERROR(runner->allocate());
  FLEXQ_RETURN_IF_ERROR(runner->fill_input());
  return std::unique_ptr<LinearRunner>(std::move(runner));
}

Status CudaLinearRunner::allocate() {
  RunnerBuffers buffers;
  FLEXQ_ASSIGN_OR_RETURN(memory_, CudaBuffer::allocate(session_, carve(shape_, nullptr, buffers),
                                                       "benchmark activations"));
  carve(shape_, memory_->data(), buffers);
  input_ = buffers.input;
  output_ = buffers.output;
  codes_ = buffers.codes;
  scratch_ = buffers.scratch;
  return Status();
}

Status CudaLinearRunner::fill_input() {
  const int64_t n = shape_.n_tokens * input_.stride;
  const int64_t bytes = n * int64_t{sizeof(float)};
  FLEXQ_ASSIGN_OR_RETURN(const PinnedBuffer host,
                         PinnedBuffer::allocate(session_, bytes, "benchmark activations"));
  // A linear congruential generator (Knuth's MMIX): uniform in [-1, 1).
  uint64_t state = 1;
  for (int64_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    reinterpret_cast<float*>(host.data())[i] =
        static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f;
  }
  FLEXQ_RETURN_IF_ERROR(session_->check(
      session_->runtime().memcpy_async(input_.data, host.data(), static_cast<size_t>(bytes),
                                       cudaMemcpyHostToDevice, timer_.stream().get()),
      "copying to the device"));
  return timer_.stream().synchronize("copying to the device");
}

Status CudaLinearRunner::multiply(const DeviceLinear& linear) {
  const CudaLaunch launch = timer_.launch();
  const CudaMatrix w = cuda_matrix(linear.weight);
  const CudaLinearPart part = {w, linear.bias, output_};
  return session_->check(is_quantized_input(linear)
                             ? cuda_linear_int(launch, {&part, 1}, codes_, linear.activation_bits,
                                               shape_.n_tokens, CudaStore::kSet, scratch_)
                             : cuda_linear_float(launch, w, input_, shape_.n_tokens, linear.bias,
                                                 CudaStore::kSet, output_, scratch_),
                         "linear layer");
}

Result<double> CudaLinearRunner::time(std::span<const DeviceLinear> copies, int32_t repeats) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  const DeviceLinear& any = copies.front();
  if (is_quantized_input(any)) {
    const CudaLaunch launch = timer_.launch();
    codes_.order = codes_order(launch.sm, cuda_matrix(any.weight).family, shape_.n_tokens);
    FLEXQ_RETURN_IF_ERROR(session_->check(
        cuda_quantize(launch, input_, shape_.n_cols, any.activation_bits, shape_.n_tokens, codes_),
        "quantization"));
  }
  return timer_.time(kGraphUs, repeats, [&](int64_t i) {
    return multiply(copies[static_cast<size_t>(i) % copies.size()]);
  });
}

}  // namespace flexq
