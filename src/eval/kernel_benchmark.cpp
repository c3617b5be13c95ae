#include "eval/kernel_benchmark.h"

#include <algorithm>

#include "base/checked.h"
#include "base/memory.h"
#include "model/llama_model.h"
#include "quantize/precision_policy.h"
#include "quantize/synthetic_model.h"

namespace flexq {
namespace {

// More than the last cache of any processor and of any GPU so far.
constexpr int64_t kCpuWorkingSetBytes = int64_t{1} << 30;
constexpr int64_t kGpuWorkingSetBytes = int64_t{256} << 20;

// The short name of a projection: "model.layers.0.mlp.gate_proj.weight" -> "gate_proj".
std::string layer_name(const std::string& tensor) {
  const size_t end = tensor.rfind('.');
  const size_t dot = tensor.rfind('.', end - 1);
  const size_t begin = dot == std::string::npos ? 0 : dot + 1;
  return tensor.substr(begin, end - begin);
}

const char* format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kInt6Group:
      return "int6";
    case WeightFormat::kInt8Group:
      return "int8";
    case WeightFormat::kInt8Row:
      return "int8-row";
    default:
      return "f16";
  }
}

bool is_same_work(const StoredTensor& a, const StoredTensor& b) {
  return a.spec.rows == b.spec.rows && a.spec.cols == b.spec.cols && a.format == b.format &&
         a.activation_bits == b.activation_bits;
}

}  // namespace

// Copies of one packed matrix, visited in turn so that every call finds its weights in memory and
// not in a cache.
struct KernelBenchmark::Matrix {
  std::string layers;
  StoredTensor tensor;
  int64_t bytes = 0;  // of one copy
  std::unique_ptr<DeviceBuffer> memory;
  std::vector<DeviceLinear> copies;
  std::vector<std::span<const uint8_t>> blocks;  // the same copies as bytes
};

namespace {

// The matrices of a shape's first block, which stands for all since their shapes are equal, and the
// lm_head.
Result<std::vector<StoredTensor>> tensors_of_shape(const KernelBenchmarkRequest& request) {
  QuantizeOptions precision;
  precision.policy = request.policy;
  FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<SyntheticSource> source,
                         make_synthetic_model(request.shape, precision));
  std::vector<StoredTensor> tensors;
  for (const StoredTensor& tensor : source->tensors()) {
    const TensorRole role = tensor.spec.role;
    if ((role == TensorRole::kLinear && tensor.spec.layer == 0) || role == TensorRole::kLmHead)
      tensors.push_back(tensor);
  }
  return tensors;
}

Result<std::vector<StoredTensor>> tensors_of_matrix(const KernelBenchmarkRequest& request) {
  FLEXQ_ASSIGN_OR_RETURN(const PrecisionPolicy policy, find_precision_policy(request.policy));
  StoredTensor tensor;
  tensor.spec.name = "matrix.weight";
  tensor.spec.role = TensorRole::kLinear;
  tensor.spec.rows = request.matrix_rows;
  tensor.spec.cols = request.matrix_cols;
  tensor.format = policy.weight_bits == 6   ? WeightFormat::kInt6Group
                  : policy.weight_bits == 8 ? WeightFormat::kInt8Group
                                            : WeightFormat::kF16;
  tensor.activation_bits = policy.bits_for(LinearKind::kQ);
  return std::vector<StoredTensor>{tensor};
}

}  // namespace

Result<std::unique_ptr<KernelBenchmark>> KernelBenchmark::open(
    const KernelBenchmarkOptions& options, int64_t bandwidth_bytes) {
  std::unique_ptr<KernelBenchmark> benchmark(
      new KernelBenchmark(options.n_threads > 0 ? options.n_threads : available_cpus()));
  KernelMachine& machine = benchmark->machine_;
  FLEXQ_ASSIGN_OR_RETURN(benchmark->device_, open_device(options.device, options.device_options));
  Device& device = *benchmark->device_;
  machine.device = device.describe();
  machine.n_threads = benchmark->pool_.n_threads();
  FLEXQ_ASSIGN_OR_RETURN(benchmark->reader_, device.create_read_runner(benchmark->pool_));
  FLEXQ_ASSIGN_OR_RETURN(machine.read_bandwidth, benchmark->reader_->bandwidth(bandwidth_bytes));
  FLEXQ_ASSIGN_OR_RETURN(machine.tensor_rates, device.tensor_rates());
  benchmark->wanted_baselines_ = options.baselines;
  if (!options.baselines.empty()) {
    Result<std::unique_ptr<BaselineRunner>> baselines = device.create_baselines();
    if (baselines.ok()) {
      benchmark->baselines_ = std::move(baselines).value();
      machine.baseline_library = benchmark->baselines_->library();
    } else if (baselines.status().code() == StatusCode::kDeviceLost) {
      return std::move(baselines).status();
    } else {
      machine.no_baselines = baselines.status().message();
    }
  }
  return benchmark;
}

Status KernelBenchmark::load(Matrix& matrix, int64_t working_set_bytes) {
  // Of random weights the first piece is enough: it is stored again and again.
  SyntheticSource source(ModelConfig(), {matrix.tensor}, /*seed=*/1);
  const StoredTensor& tensor = source.tensors().front();
  const DeviceTensorDesc desc = device_tensor_desc(tensor);
  PieceBuffer buffer;
  WeightPiece piece;
  FLEXQ_RETURN_IF_ERROR(source.read_piece(0, 0, buffer, &piece));

  FLEXQ_ASSIGN_OR_RETURN(matrix.bytes, device_->tensor_bytes(desc));
  if (working_set_bytes == 0) {
    working_set_bytes =
        machine_.device.kind == DeviceKind::kCpu ? kCpuWorkingSetBytes : kGpuWorkingSetBytes;
  }
  const int64_t n_copies = std::max<int64_t>(2, ceil_div(working_set_bytes, matrix.bytes));
  FLEXQ_ASSIGN_OR_RETURN(matrix.memory,
                         device_->allocate(n_copies * matrix.bytes, "benchmark weights"));
  uint8_t* const first = matrix.memory->data();
  for (int64_t row = 0; row < tensor.spec.rows; row += piece.n_rows) {
    FLEXQ_RETURN_IF_ERROR(device_->store_rows(desc, row,
                                              std::min(piece.n_rows, tensor.spec.rows - row),
                                              piece.values, piece.scales, first));
  }
  FLEXQ_RETURN_IF_ERROR(device_->finish_stores());
  for (int64_t i = 0; i < n_copies; ++i) {
    uint8_t* copy = first + i * matrix.bytes;
    if (i > 0) FLEXQ_RETURN_IF_ERROR(device_->copy(copy, first, matrix.bytes));
    DeviceLinear linear;
    linear.weight = device_->matrix_at(desc, copy);
    linear.activation_bits = tensor.activation_bits;
    matrix.copies.push_back(linear);
    matrix.blocks.emplace_back(copy, static_cast<size_t>(matrix.bytes));
  }
  return Status();
}

Status KernelBenchmark::measure_baselines(const KernelBenchmarkRequest& request, KernelTime& time) {
  const int64_t working_set =
      request.working_set_bytes > 0 ? request.working_set_bytes : kGpuWorkingSetBytes;
  for (const Baseline baseline : wanted_baselines_) {
    Result<double> us = baselines_->time(baseline, {time.rows, time.cols, time.n_tokens},
                                         working_set, request.repeats);
    if (us.ok()) {
      time.baseline_microseconds[static_cast<size_t>(baseline)] = *us;
    } else if (us.status().code() != StatusCode::kUnsupportedValue) {
      return std::move(us).status();
    }
  }
  return Status();
}

Result<bool> KernelBenchmark::measure(const KernelBenchmarkRequest& request, const Matrix& matrix,
                                      KernelTime& time,
                                      FunctionRef<bool(const KernelTime&)> report) {
  FLEXQ_ASSIGN_OR_RETURN(
      const std::unique_ptr<LinearRunner> runner,
      device_->create_linear_runner({time.rows, time.cols, time.n_tokens}, pool_));
  if (request.tune) {
    const LinearRunner::Configurations all = runner->configurations(matrix.copies.front());
    for (size_t i = 0; i < all.names.size(); ++i) {
      time.configuration = all.names[i];
      time.chosen = i == all.chosen;
      FLEXQ_ASSIGN_OR_RETURN(time.microseconds,
                             runner->time_configuration(i, matrix.copies, request.repeats));
      if (report(time)) return true;
    }
    if (!all.names.empty()) return false;
  }
  time.configuration = "";
  time.chosen = true;
  FLEXQ_ASSIGN_OR_RETURN(time.microseconds, runner->time(matrix.copies, request.repeats));
  time.baseline_microseconds = {};
  if (baselines_ != nullptr && !request.tune) {
    FLEXQ_RETURN_IF_ERROR(measure_baselines(request, time));
  }
  return report(time);
}

Status KernelBenchmark::run(
    const KernelBenchmarkRequest& request,
    FunctionRef<bool(const KernelTime&, int64_t done, int64_t total)> report) {
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<StoredTensor> tensors, request.matrix_rows > 0
                                                                      ? tensors_of_matrix(request)
                                                                      : tensors_of_shape(request));
  std::vector<Matrix> matrices;
  for (const StoredTensor& tensor : tensors) {
    const auto same = std::find_if(matrices.begin(), matrices.end(), [&](const Matrix& other) {
      return is_same_work(tensor, other.tensor);
    });
    if (same != matrices.end()) {
      same->layers += "," + layer_name(tensor.spec.name);
    } else {
      matrices.emplace_back();
      matrices.back().tensor = tensor;
      matrices.back().layers = layer_name(tensor.spec.name);
    }
  }

  const auto total = static_cast<int64_t>(matrices.size() * request.n_tokens.size());
  int64_t done = 0;
  for (Matrix& matrix : matrices) {
    FLEXQ_RETURN_IF_ERROR(load(matrix, request.working_set_bytes));
    KernelTime time;
    time.layer = matrix.layers;
    time.kernels = machine_.device.kernels;
    time.format = format_name(matrix.tensor.format);
    time.activation_bits = matrix.tensor.activation_bits;
    time.rows = matrix.tensor.spec.rows;
    time.cols = matrix.tensor.spec.cols;
    time.weight_bytes = matrix.bytes;
    time.floor_microseconds = 1e6 * static_cast<double>(matrix.bytes) / machine_.read_bandwidth;
    FLEXQ_ASSIGN_OR_RETURN(time.read_microseconds, reader_->time(matrix.blocks, request.repeats));
    for (const int32_t n_tokens : request.n_tokens) {
      time.n_tokens = n_tokens;
      ++done;
      FLEXQ_ASSIGN_OR_RETURN(const bool stop,
                             measure(request, matrix, time, [&](const KernelTime& measured) {
                               return report(measured, done, total);
                             }));
      if (stop) return Status();
    }
    matrix = Matrix();  // its memory is the next one's
  }
  return Status();
}

}  // namespace flexq
