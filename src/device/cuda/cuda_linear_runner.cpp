#include "device/cuda/cuda_linear_runner.h"

#include <algorithm>

#include "base/checked.h"
#include "device/cuda/cuda_tensor.h"
#include "device/cuda/cuda_workspace.h"
#include "device/workspace_carver.h"
#include "kernels/cuda/fused_linear_shape.h"
#include "kernels/cuda/linear_configs.h"

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
  carver.take(out.scratch, 1, cuda_linear_int_scratch_bytes(n_rows, n_cols, n_tokens));
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

LinearProblem CudaLinearRunner::problem(const DeviceLinear& linear) const {
  const CudaMatrix w = cuda_matrix(linear.weight);
  return {.sm = session_->target().sm,
          .n_sms = session_->target().n_sms,
          .family = w.family,
          .weight_bits = weight_bits(w.format),
          .n_rows = w.rows,
          .n_cols = w.cols,
          .n_tokens = shape_.n_tokens};
}

Status CudaLinearRunner::quantize_input(const DeviceLinear& linear) {
  if (!is_quantized_input(linear)) return Status();
  codes_.order = codes_order(problem(linear));
  return session_->check(cuda_quantize(timer_.launch(), input_, shape_.n_cols,
                                       linear.activation_bits, shape_.n_tokens, codes_),
                         "quantization");
}

std::vector<CudaLinearRunner::Way> CudaLinearRunner::ways(const DeviceLinear& linear) const {
  if (!is_quantized_input(linear)) return {{.kind = Way::Kind::kFloat, .chosen = true}};
  const LinearProblem asked = problem(linear);
  const FusedProblem fused = {asked.sm, asked.family, asked.weight_bits, asked.n_cols,
                              asked.n_tokens};
  std::vector<Way> ways;
  const bool quantizes = fuses_quantization(fused, /*norms=*/false);
  if (quantizes) ways.push_back({.kind = Way::Kind::kFusedQuantizing, .chosen = true});
  const bool fuses = fuses_linear(fused);
  if (fuses) ways.push_back({.kind = Way::Kind::kFused, .chosen = !quantizes});
  const LinearConfig selected = select_linear(asked);
  for (const LinearConfig& config : linear_configs(asked)) {
    ways.push_back({.kind = Way::Kind::kConfig,
                    .config = config,
                    .chosen = !fuses && is_same_config(config, selected)});
  }
  return ways;
}

Status CudaLinearRunner::multiply(const Way& way, const DeviceLinear& linear) {
  const CudaLaunch launch = timer_.launch();
  const CudaLinearPart part = {cuda_matrix(linear.weight), linear.bias, output_};
  const int32_t bits = linear.activation_bits;
  cudaError_t error = cudaSuccess;
  switch (way.kind) {
    case Way::Kind::kFloat:
      error = cuda_linear_float(launch, part.w, input_, shape_.n_tokens, linear.bias,
                                CudaStore::kSet, output_, nullptr);
      break;
    case Way::Kind::kFusedQuantizing:
      error = cuda_linear_fused(launch, {&part, 1}, CudaSource{input_.data, nullptr, 0}, bits,
                                CudaStore::kSet);
      break;
    case Way::Kind::kFused:
      error = cuda_linear_fused(launch, {&part, 1}, codes_, shape_.n_tokens, CudaStore::kSet);
      break;
    case Way::Kind::kConfig:
      error =
          cuda_linear_int_with(launch, way.config, part, codes_, bits, shape_.n_tokens, scratch_);
      break;
  }
  return session_->check(error, "linear layer");
}

Result<double> CudaLinearRunner::time_way(const Way& way, std::span<const DeviceLinear> copies,
                                          int32_t repeats) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  FLEXQ_RETURN_IF_ERROR(quantize_input(copies.front()));
  return timer_.time(kGraphUs, repeats, [&](int64_t i) {
    return multiply(way, copies[static_cast<size_t>(i) % copies.size()]);
  });
}

Result<double> CudaLinearRunner::time(std::span<const DeviceLinear> copies, int32_t repeats) {
  const std::vector<Way> all = ways(copies.front());
  const auto chosen =
      std::find_if(all.begin(), all.end(), [](const Way& way) { return way.chosen; });
  return time_way(*chosen, copies, repeats);
}

LinearRunner::Configurations CudaLinearRunner::configurations(const DeviceLinear& linear) const {
  Configurations shown;
  if (!is_quantized_input(linear)) return shown;
  for (const Way& way : ways(linear)) {
    if (way.chosen) shown.chosen = shown.names.size();
    shown.names.push_back(way.kind == Way::Kind::kFusedQuantizing ? "fused with quantization"
                          : way.kind == Way::Kind::kFused         ? "fused"
                                                                  : config_name(way.config));
  }
  return shown;
}

Result<double> CudaLinearRunner::time_configuration(size_t index,
                                                    std::span<const DeviceLinear> copies,
                                                    int32_t repeats) {
  return time_way(ways(copies.front())[index], copies, repeats);
}

}  // namespace flexq
