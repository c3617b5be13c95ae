#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#include "api/flexq_private.h"
#include "api/handles.h"
#include "eval/kernel_benchmark.h"
#include "eval/load_floor.h"

using flexq::Baseline;
using flexq::Result;
using flexq::Status;
using flexq::StatusCode;
using flexq::api::copy_name;
using flexq::api::guarded;

struct flexq_kernel_benchmark : flexq::api::Handle {
  std::unique_ptr<flexq::KernelBenchmark> benchmark;
};

namespace {

static_assert(FLEXQ_KERNEL_BASELINES == flexq::kBaselineCount);

constexpr int32_t kMaxTokens = 1 << 14;
constexpr int32_t kMaxRepeats = 1000;
constexpr int64_t kMaxRows = int64_t{1} << 24;

// "all", "none", or names separated by commas; "none" adds nothing.
Result<std::vector<Baseline>> parse_baselines(std::string_view text) {
  std::array<bool, flexq::kBaselineCount> wanted = {};
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view name = text.substr(begin, end - begin);
    bool is_known = name == "none" || name == "all";
    for (size_t i = 0; i < wanted.size(); ++i) {
      const bool is_named = name == flexq::kBaselineNames[i];
      is_known = is_known || is_named;
      wanted[i] = wanted[i] || is_named || name == "all";
    }
    if (!is_known) {
      return Status::error(StatusCode::kUnsupportedValue,
                           "baselines: expected all, none, fp16, int8, fp8 or w8a8-row, found "
                           "\"%.*s\"",
                           static_cast<int>(name.size()), name.data());
    }
    begin = end + 1;
  }
  std::vector<Baseline> baselines;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i]) baselines.push_back(static_cast<Baseline>(i));
  }
  return baselines;
}

Status read_request(const flexq_kernel_request& from, flexq::KernelBenchmarkRequest& to) {
  if (from.repeats < 1 || from.repeats > kMaxRepeats)
    return flexq::api::invalid_range("repeats", 1, kMaxRepeats, from.repeats);
  if (from.working_set_bytes < 0)
    return flexq::api::negative_length("working_set_bytes", from.working_set_bytes);
  if (from.shape != nullptr) to.shape = from.shape;
  if (from.policy != nullptr) to.policy = from.policy;
  if (from.rows != 0 || from.cols != 0) {
    if (from.rows < 1 || from.rows > kMaxRows)
      return flexq::api::invalid_range("rows", 1, kMaxRows, static_cast<double>(from.rows));
    if (from.cols < 1 || from.cols > kMaxRows)
      return flexq::api::invalid_range("cols", 1, kMaxRows, static_cast<double>(from.cols));
    to.matrix_rows = from.rows;
    to.matrix_cols = from.cols;
  }
  to.repeats = from.repeats;
  to.working_set_bytes = from.working_set_bytes;
  to.tune = from.tune != 0;
  to.n_tokens.clear();
  for (int32_t i = 0; i < from.n_token_counts; ++i) {
    if (from.n_tokens[i] < 1 || from.n_tokens[i] > kMaxTokens)
      return flexq::api::invalid_range("n_tokens", 1, kMaxTokens, from.n_tokens[i]);
    to.n_tokens.push_back(from.n_tokens[i]);
  }
  return Status();
}

flexq_kernel_time shown_time(const flexq::KernelTime& time) {
  flexq_kernel_time shown = {};
  shown.struct_size = sizeof shown;
  shown.activation_bits = time.activation_bits;
  shown.rows = time.rows;
  shown.cols = time.cols;
  shown.n_tokens = time.n_tokens;
  shown.chosen = time.chosen ? 1 : 0;
  shown.weight_bytes = time.weight_bytes;
  shown.microseconds = time.microseconds;
  shown.floor_microseconds = time.floor_microseconds;
  shown.read_microseconds = time.read_microseconds;
  std::copy(time.baseline_microseconds.begin(), time.baseline_microseconds.end(),
            shown.baseline_microseconds);
  copy_name(shown.layer, time.layer);
  copy_name(shown.format, time.format);
  copy_name(shown.kernels, time.kernels);
  copy_name(shown.configuration, time.configuration);
  return shown;
}

}  // namespace

extern "C" {

const char* flexq_private_baseline_name(int32_t index) {
  return index >= 0 && index < flexq::kBaselineCount ? flexq::kBaselineNames[index] : "";
}

flexq_status flexq_private_kernel_benchmark_create(const flexq_model_options* options,
                                                   const char* baselines,
                                                   flexq_kernel_benchmark** benchmark) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(baselines);
    FLEXQ_REQUIRE(benchmark);
    *benchmark = nullptr;
    flexq::KernelBenchmarkOptions opened;
    FLEXQ_ASSIGN_OR_RETURN(opened.baselines, parse_baselines(baselines));
    if (options != nullptr) {
      opened.device = options->load.device;
      opened.device_options = options->load.device_options;
      opened.n_threads = options->load.n_threads;
    }
    auto handle = std::make_unique<flexq_kernel_benchmark>();
    FLEXQ_ASSIGN_OR_RETURN(handle->benchmark, flexq::KernelBenchmark::open(opened));
    *benchmark = handle.release();
    return Status();
  });
}

void flexq_private_kernel_benchmark_release(flexq_kernel_benchmark* benchmark) {
  flexq::api::drop_reference(benchmark);
}

flexq_status flexq_private_kernel_benchmark_machine(const flexq_kernel_benchmark* benchmark,
                                                    flexq_kernel_machine* machine) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(benchmark);
    const flexq::KernelMachine& known = benchmark->benchmark->machine();
    flexq_kernel_machine shown = {};
    shown.n_threads = known.n_threads;
    shown.read_bandwidth = known.read_bandwidth;
    shown.int8_rate = known.tensor_rates.int8;
    shown.fp16_rate = known.tensor_rates.fp16;
    copy_name(shown.device, known.device.id);
    copy_name(shown.name, known.device.name);
    copy_name(shown.kernels, known.device.kernels);
    copy_name(shown.baseline_library, known.baseline_library);
    copy_name(shown.no_baselines, known.no_baselines);
    return flexq::api::fill_info(shown, machine);
  });
}

flexq_status flexq_private_kernel_benchmark_run(flexq_kernel_benchmark* benchmark,
                                                const flexq_kernel_request* request,
                                                flexq_kernel_time_callback callback,
                                                void* user_data) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(benchmark);
    FLEXQ_REQUIRE(request);
    FLEXQ_REQUIRE(request->n_tokens);
    FLEXQ_REQUIRE(callback);
    const flexq::api::Held held(benchmark);
    flexq::KernelBenchmarkRequest wanted;
    FLEXQ_RETURN_IF_ERROR(read_request(*request, wanted));
    return held->benchmark->run(wanted,
                                [&](const flexq::KernelTime& time, int64_t done, int64_t total) {
                                  const flexq_kernel_time shown = shown_time(time);
                                  return callback(&shown, done, total, user_data) != 0;
                                });
  });
}

flexq_status flexq_private_load_times(const flexq_model* model, flexq_load_times* times) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(model);
    FLEXQ_REQUIRE(times);
    const flexq::api::Held<const flexq_model> held(model);
    const flexq::LoadTimes& known = held->model->llama->load_times();
    const auto seconds = [](int64_t ns) { return static_cast<double>(ns) * 1e-9; };
    flexq_load_times shown = {};
    shown.n_threads = held->model->pool->n_threads();
    shown.read_seconds = seconds(known.read.read_ns);
    shown.hash_seconds = seconds(known.read.hash_ns);
    shown.decode_seconds = seconds(known.read.decode_ns);
    shown.check_seconds = seconds(known.read.check_ns);
    shown.store_seconds = seconds(known.store_ns);
    return flexq::api::fill_info(shown, times);
  });
}

flexq_status flexq_private_load_floor(const flexq_bundle* bundle, int32_t n_threads,
                                      flexq_load_floor* floor) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(bundle);
    FLEXQ_REQUIRE(floor);
    if (n_threads < 0 || n_threads > flexq::ThreadPool::kMaxThreads)
      return flexq::api::invalid_range("n_threads", 0, flexq::ThreadPool::kMaxThreads, n_threads);
    const flexq::api::Held held(bundle);
    flexq::ThreadPool pool(n_threads > 0 ? n_threads : flexq::available_cpus());
    FLEXQ_ASSIGN_OR_RETURN(const flexq::LoadFloor measured,
                           flexq::measure_load_floor(*held->bundle, pool));
    flexq_load_floor shown = {};
    shown.n_threads = pool.n_threads();
    shown.hash_rate = measured.hash_rate;
    shown.decode_rate = measured.decode_rate;
    shown.fresh_memory_rate = measured.fresh_memory_rate;
    shown.first_touch_rate = measured.first_touch_rate;
    return flexq::api::fill_info(shown, floor);
  });
}

}  // extern "C"
