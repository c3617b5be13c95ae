#include "eval/kernel_benchmark.h"

#include <algorithm>
#include <chrono>

#include "base/checked.h"
#include "base/memory.h"
#include "device/device_registry.h"
#include "model/llama_model.h"
#include "quantize/synthetic_model.h"

namespace flexq {
namespace {

double now_us() {
  using namespace std::chrono;
  return duration<double, std::micro>(steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

constexpr size_t kDeviceCalls = 32;

// Copies of one packed matrix, visited in turn so that every call finds its weights in memory and
// not in a cache.
struct RotatingMatrix {
  std::unique_ptr<DeviceBuffer> memory;
  int64_t bytes = 0;  // of one copy
  std::vector<DeviceMatrix> copies;
};

Result<RotatingMatrix> make_rotating_matrix(Device& device, SyntheticSource& source,
                                            int64_t tensor_index, int64_t working_set_bytes) {
  const StoredTensor& tensor = source.tensors()[static_cast<size_t>(tensor_index)];
  const DeviceTensorDesc desc = device_tensor_desc(tensor);
  RotatingMatrix matrix;
  FLEXQ_ASSIGN_OR_RETURN(matrix.bytes, device.tensor_bytes(desc));
  const int64_t n_copies = std::max<int64_t>(2, ceil_div(working_set_bytes, matrix.bytes));
  FLEXQ_ASSIGN_OR_RETURN(matrix.memory,
                         device.allocate(n_copies * matrix.bytes, "benchmark weights"));
  PieceBuffer buffer;
  for (int64_t p = 0; p < source.n_pieces(tensor_index); ++p) {
    WeightPiece piece;
    FLEXQ_RETURN_IF_ERROR(source.read_piece(tensor_index, p, buffer, &piece));
    FLEXQ_RETURN_IF_ERROR(device.store_rows(desc, piece.row_begin, piece.n_rows, piece.values,
                                            piece.scales, matrix.memory->data()));
  }
  FLEXQ_RETURN_IF_ERROR(device.finish_stores());
  for (int64_t i = 0; i < n_copies; ++i) {
    uint8_t* copy = matrix.memory->data() + i * matrix.bytes;
    if (i > 0) FLEXQ_RETURN_IF_ERROR(device.copy(copy, matrix.memory->data(), matrix.bytes));
    matrix.copies.push_back(device.matrix_at(desc, copy));
  }
  return matrix;
}

// Reads `bytes` with all threads and nothing else, asked for ahead as the kernels do; the sum keeps
// the loop alive.
uint64_t read_only(ThreadPool& pool, const uint8_t* data, int64_t bytes) {
  // As many tasks as a layer has.
  const int64_t task_bytes = align_up(ceil_div(bytes, pool.n_threads() * 4), 64);
  constexpr int64_t kNearWords = 1024 / 8;
  constexpr int64_t kFarWords = 6144 / 8;
  std::atomic<uint64_t> total{0};
  pool.parallel_for(ceil_div(bytes, task_bytes), [&](int64_t task, int) {
    const int64_t begin = task * task_bytes;
    const auto* words = reinterpret_cast<const uint64_t*>(data + begin);
    const int64_t n = std::min(task_bytes, bytes - begin) / 8;
    uint64_t sums[8] = {};
    for (int64_t i = 0; i + 8 <= n; i += 8) {
      __builtin_prefetch(words + i + kNearWords, 0, 3);
      __builtin_prefetch(words + i + kFarWords, 0, 2);
      for (int64_t j = 0; j < 8; ++j)
        sums[j] += words[i + j];
    }
    for (const uint64_t sum : sums)
      total += sum;
  });
  return total;
}

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

}  // namespace

Result<double> measure_copy_speed(Device& device) {
  constexpr int64_t kBytes = int64_t{1} << 30;  // beyond every cache, and long beside a launch
  constexpr int kRuns = 5;
  FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceBuffer> memory,
                         device.allocate(2 * kBytes, "benchmark copy"));
  double best_us = 0;
  for (int run = 0; run < kRuns; ++run) {
    const double begin = now_us();
    FLEXQ_RETURN_IF_ERROR(device.copy(memory->data() + kBytes, memory->data(), kBytes));
    const double taken = now_us() - begin;
    if (run == 0 || taken < best_us) best_us = taken;
  }
  return 2.0 * static_cast<double>(kBytes) / best_us * 1e6;
}

Status benchmark_kernels(const KernelBenchmarkOptions& options,
                         FunctionRef<bool(const KernelTime&)> report) {
  QuantizeOptions precision;
  precision.policy = options.policy;
  FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<SyntheticSource> source,
                         make_synthetic_model(options.shape, precision));
  FLEXQ_ASSIGN_OR_RETURN(const std::shared_ptr<Device> device,
                         open_device(options.device, options.device_options));
  ThreadPool pool(options.n_threads > 0 ? options.n_threads : available_cpus());
  const DeviceDescription description = device->describe();
  const bool on_cpu = description.kind == DeviceKind::kCpu;
  double copy_speed = 0;
  if (!on_cpu) {
    FLEXQ_ASSIGN_OR_RETURN(copy_speed, measure_copy_speed(*device));
  }

  for (size_t i = 0; i < source->tensors().size(); ++i) {
    const StoredTensor& tensor = source->tensors()[i];
    // One layer stands for all: their shapes are equal.
    const bool first_layer = tensor.spec.role == TensorRole::kLinear && tensor.spec.layer == 0;
    if (!first_layer && tensor.spec.role != TensorRole::kLmHead) continue;
    FLEXQ_ASSIGN_OR_RETURN(
        RotatingMatrix matrix,
        make_rotating_matrix(*device, *source, static_cast<int64_t>(i), options.working_set_bytes));
    size_t next = 0;
    const auto next_copy = [&]() -> const DeviceMatrix& {
      return matrix.copies[next++ % matrix.copies.size()];
    };
    std::vector<double> read_times;
    for (int32_t r = 0; r < options.repeats && on_cpu; ++r) {
      const DeviceMatrix& copy = next_copy();
      const double begin = now_us();
      read_only(pool, copy.values, matrix.bytes);
      read_times.push_back(now_us() - begin);
    }
    if (!on_cpu) read_times.push_back(1e6 * static_cast<double>(matrix.bytes) / copy_speed);
    // A launch costs the host more than a small matrix costs the device: there many calls stand
    // between two looks at the clock.
    std::vector<DeviceLinear> linears(on_cpu ? 1 : kDeviceCalls);
    for (const int32_t n_tokens : options.n_tokens) {
      FLEXQ_ASSIGN_OR_RETURN(
          const std::unique_ptr<LinearRunner> runner,
          device->create_linear_runner(n_tokens, tensor.spec.cols, tensor.spec.rows, pool));
      std::vector<double> times;
      for (int32_t r = 0; r < options.repeats; ++r) {
        for (DeviceLinear& linear : linears) {
          linear.weight = next_copy();
          linear.activation_bits = tensor.activation_bits;
        }
        FLEXQ_ASSIGN_OR_RETURN(const double microseconds, runner->time(linears));
        times.push_back(microseconds);
      }
      KernelTime time;
      time.layer = layer_name(tensor.spec.name);
      time.kernels = description.kernels;
      time.format = format_name(tensor.format);
      time.activation_bits = tensor.activation_bits;
      time.rows = tensor.spec.rows;
      time.cols = tensor.spec.cols;
      time.n_tokens = n_tokens;
      time.n_threads = pool.n_threads();
      time.weight_bytes = matrix.bytes;
      time.microseconds = median(std::move(times));
      time.read_microseconds = median(read_times);
      if (report(time)) return Status();
    }
  }
  return Status();
}

}  // namespace flexq
