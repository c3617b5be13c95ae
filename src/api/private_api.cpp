#include "api/api_guard.h"
#include "api/flexq_private.h"
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
                                             const char* cpu_kernels, int32_t n_threads,
                                             const int32_t* n_tokens, int32_t n_token_counts,
                                             int32_t repeats, int64_t working_set_bytes,
                                             flexq_kernel_time_callback callback, void* user_data) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(n_tokens);
    FLEXQ_REQUIRE(callback);
    if (repeats < 1 || repeats > kMaxRepeats)
      return flexq::api::invalid_range("repeats", 1, kMaxRepeats, repeats);
    if (n_threads < 0 || n_threads > flexq::ThreadPool::kMaxThreads)
      return flexq::api::invalid_range("n_threads", 0, flexq::ThreadPool::kMaxThreads, n_threads);
    if (working_set_bytes < 0)
      return flexq::api::negative_length("working_set_bytes", working_set_bytes);
    flexq::KernelBenchmarkOptions options;
    if (shape != nullptr) options.shape = shape;
    if (policy != nullptr) options.policy = policy;
    if (cpu_kernels != nullptr) options.cpu_kernels = cpu_kernels;
    options.n_threads = n_threads;
    options.repeats = repeats;
    if (working_set_bytes > 0) options.working_set_bytes = working_set_bytes;
    options.n_tokens.clear();
    for (int32_t i = 0; i < n_token_counts; ++i) {
      if (n_tokens[i] < 1 || n_tokens[i] > kMaxTokens)
        return flexq::api::invalid_range("n_tokens", 1, kMaxTokens, n_tokens[i]);
      options.n_tokens.push_back(n_tokens[i]);
    }
    return flexq::benchmark_kernels(options, [&](const flexq::KernelTime& time) {
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

}  // extern "C"
