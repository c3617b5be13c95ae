#include "device/cuda/cuda_linear_runner.h"

#include <algorithm>

#include "base/checked.h"
#include "device/cuda/cuda_tensor.h"
#include "device/cuda/cuda_workspace.h"
#include "device/workspace_carver.h"
#include "kernels/cuda/linear_select.h"

namespace flexq {
namespace {

struct RunnerBuffers {
  CudaRows input, output;
  CudaQuantized codes;
  uint8_t* scratch = nullptr;
};

int64_t carve(int32_t n_tokens, int64_t n_cols, int64_t n_rows, uint8_t* base, RunnerBuffers& out) {
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

}  // namespace

Result<std::unique_ptr<LinearRunner>> CudaLinearRunner::create(std::shared_ptr<CudaSession> session,
                                                               int32_t n_tokens, int64_t n_cols,
                                                               int64_t n_rows) {
  std::unique_ptr<CudaLinearRunner> runner(new CudaLinearRunner(std::move(session)));
  FLEXQ_RETURN_IF_ERROR(runner->allocate(n_tokens, n_cols, n_rows));
  return std::unique_ptr<LinearRunner>(std::move(runner));
}

Status CudaLinearRunner::allocate(int32_t n_tokens, int64_t n_cols, int64_t n_rows) {
  n_tokens_ = n_tokens;
  n_cols_ = n_cols;
  RunnerBuffers buffers;
  FLEXQ_ASSIGN_OR_RETURN(
      memory_, CudaBuffer::allocate(session_, carve(n_tokens, n_cols, n_rows, nullptr, buffers),
                                    "benchmark activations"));
  carve(n_tokens, n_cols, n_rows, memory_->data(), buffers);
  input_ = buffers.input;
  output_ = buffers.output;
  codes_ = buffers.codes;
  scratch_ = buffers.scratch;
  FLEXQ_ASSIGN_OR_RETURN(begin_, CudaEvent::create(session_));
  FLEXQ_ASSIGN_OR_RETURN(end_, CudaEvent::create(session_));
  FLEXQ_ASSIGN_OR_RETURN(stream_, CudaStream::create(session_));

  const int64_t n = n_tokens * input_.stride;
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
                                       cudaMemcpyHostToDevice, stream_.get()),
      "copying to the device"));
  return stream_.synchronize("copying to the device");
}

Status CudaLinearRunner::multiply(const DeviceLinear& linear) {
  const CudaLaunch launch = session_->launch_on(stream_.get());
  const CudaMatrix w = cuda_matrix(linear.weight);
  const bool quantized = is_grouped(w.format) && linear.activation_bits < 16;
  const CudaLinearPart part = {w, linear.bias, output_};
  return session_->check(quantized
                             ? cuda_linear_int(launch, {&part, 1}, codes_, linear.activation_bits,
                                               n_tokens_, CudaStore::kSet, scratch_)
                             : cuda_linear_float(launch, w, input_, n_tokens_, linear.bias,
                                                 CudaStore::kSet, output_, scratch_),
                         "linear layer");
}

Result<double> CudaLinearRunner::time(std::span<const DeviceLinear> linears) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  const DeviceLinear& any = linears.front();
  if (is_grouped(any.weight.format) && any.activation_bits < 16) {
    const CudaLaunch launch = session_->launch_on(stream_.get());
    codes_.order = codes_order(launch.sm, cuda_matrix(any.weight).family, n_tokens_);
    FLEXQ_RETURN_IF_ERROR(session_->check(
        cuda_quantize(launch, input_, n_cols_, any.activation_bits, n_tokens_, codes_),
        "quantization"));
  }
  FLEXQ_RETURN_IF_ERROR(begin_.record(stream_));
  for (const DeviceLinear& linear : linears)
    FLEXQ_RETURN_IF_ERROR(multiply(linear));
  FLEXQ_RETURN_IF_ERROR(end_.record(stream_));
  FLEXQ_RETURN_IF_ERROR(end_.synchronize("linear layers"));
  float milliseconds = 0;
  FLEXQ_RETURN_IF_ERROR(
      session_->check(session_->runtime().event_elapsed_ms(&milliseconds, begin_.get(), end_.get()),
                      "reading the clock"));
  return 1000.0 * static_cast<double>(milliseconds) / static_cast<double>(linears.size());
}

}  // namespace flexq
