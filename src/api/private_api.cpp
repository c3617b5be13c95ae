#include "api/flexq_private.h"
#include "api/handles.h"
#include "eval/kernel_benchmark.h"

using flexq::Status;
using flexq::api::copy_name;
using flexq::api::guarded;

namespace {

constexpr int32_t kMaxTokens = 1 << 14;
constexpr int32_t kMaxRepeats = 1000;

}  // namespace

extern "C" {

flexq_status flexq_private_benchmark_kernels(const char* shape, const char* policy,
                                             const flexq_model_options* options,
                                             const int32_t* n_tokens, int32_t n_token_counts,
                                             int32_t repeats, int64_t working_set_bytes,
                                             flexq_kernel_time_callback callback, void* user_data) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(n_tokens);
    FLEXQ_REQUIRE(callback);
    if (repeats < 1 || repeats > kMaxRepeats)
      return flexq::api::invalid_range("repeats", 1, kMaxRepeats, repeats);
    if (working_set_bytes < 0)
      return flexq::api::negative_length("working_set_bytes", working_set_bytes);
    flexq::KernelBenchmarkOptions benchmark;
    if (shape != nullptr) benchmark.shape = shape;
    if (policy != nullptr) benchmark.policy = policy;
    if (options != nullptr) {
      benchmark.device = options->load.device;
      benchmark.device_options = options->load.device_options;
      benchmark.n_threads = options->load.n_threads;
    }
    benchmark.repeats = repeats;
    if (working_set_bytes > 0) benchmark.working_set_bytes = working_set_bytes;
    benchmark.n_tokens.clear();
    for (int32_t i = 0; i < n_token_counts; ++i) {
      if (n_tokens[i] < 1 || n_tokens[i] > kMaxTokens)
        return flexq::api::invalid_range("n_tokens", 1, kMaxTokens, n_tokens[i]);
      benchmark.n_tokens.push_back(n_tokens[i]);
    }
    return flexq::benchmark_kernels(benchmark, [&](const flexq::KernelTime& time) {
      flexq_kernel_time shown = {};
      shown.struct_size = sizeof shown;
      shown.activation_bits = time.activation_bits;
      shown.rows = time.rows;
      shown.cols = time.cols;
      shown.n_tokens = time.n_tokens;
      shown.n_threads = time.n_threads;
      shown.weight_bytes = time.weight_bytes;
      shown.microseconds = time.microseconds;
      shown.read_microseconds = time.read_microseconds;
      copy_name(shown.layer, time.layer);
      copy_name(shown.format, time.format);
      copy_name(shown.kernels, time.kernels);
      return callback(&shown, user_data) != 0;
    });
  });
}

flexq_status flexq_private_copy_speed(const char* device, double* bytes_per_second) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(device);
    FLEXQ_REQUIRE(bytes_per_second);
    FLEXQ_ASSIGN_OR_RETURN(const std::shared_ptr<flexq::Device> opened,
                           flexq::open_device(device, {}));
    FLEXQ_ASSIGN_OR_RETURN(*bytes_per_second, flexq::measure_copy_speed(*opened));
    return Status();
  });
}

}  // extern "C"
