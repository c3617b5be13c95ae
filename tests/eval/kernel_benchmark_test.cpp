// The kernel benchmark measures every kind of layer and says what it measured. How fast is not for
// a test to judge.
#include "eval/kernel_benchmark.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"

namespace flexq::test {
namespace {

KernelBenchmarkOptions small_options(const std::string& policy) {
  KernelBenchmarkOptions options;
  options.policy = policy;
  options.n_threads = 2;
  options.repeats = 1;
  options.working_set_bytes = 1;
  return options;
}

// The measurements up to the first of the layer `last`.
std::vector<KernelTime> measure(const KernelBenchmarkOptions& options, const std::string& last) {
  std::vector<KernelTime> times;
  const Status status = benchmark_kernels(options, [&](const KernelTime& time) {
    times.push_back(time);
    return time.layer == last;
  });
  REQUIRE_MESSAGE(status.ok(), status.message());
  const bool best = options.device_options.cpu_kernels == "auto";
  const CpuKernels* kernels =
      select_cpu_kernels(best ? nullptr : options.device_options.cpu_kernels.c_str());
  for (const KernelTime& time : times) {
    CHECK(time.microseconds > 0);
    CHECK(time.read_microseconds > 0);
    CHECK(time.kernels == kernels->name);
    CHECK(time.n_threads == 2);
  }
  return times;
}

}  // namespace

TEST_CASE("the kernel benchmark covers the layers of one block and the lm_head") {
  // Of TinyLlama: (rows, columns) of each projection.
  struct Layer {
    const char* name;
    int64_t rows, cols;
  };
  const Layer layers[] = {{"q_proj", 2048, 2048},    {"k_proj", 256, 2048},
                          {"v_proj", 256, 2048},     {"o_proj", 2048, 2048},
                          {"gate_proj", 5632, 2048}, {"up_proj", 5632, 2048},
                          {"down_proj", 2048, 5632}, {"lm_head", 32000, 2048}};
  const std::vector<KernelTime> times = measure(small_options("flexq"), "none");
  REQUIRE(times.size() == std::size(layers));
  for (size_t i = 0; i < times.size(); ++i) {
    const KernelTime& time = times[i];
    CHECK(time.layer == layers[i].name);
    CHECK(time.rows == layers[i].rows);
    CHECK(time.cols == layers[i].cols);
    CHECK(time.n_tokens == 1);
    const int64_t weights = time.rows * time.cols;
    if (time.layer == "lm_head") {
      CHECK(time.format == "f16");
      CHECK(time.activation_bits == 16);
      CHECK(time.weight_bytes == 2 * weights);
    } else {
      // Six bits per weight and an fp16 scale per 128.
      CHECK(time.format == "int6");
      CHECK(time.activation_bits == (time.layer == "down_proj" ? 8 : 6));
      CHECK(time.weight_bytes == weights * 6 / 8 + weights / 128 * 2);
    }
  }
}

TEST_CASE("the kernel benchmark runs each number of tokens, every policy and kernel set") {
  KernelBenchmarkOptions options = small_options("w8a8");
  options.n_tokens = {1, 3, 16};
  const std::vector<KernelTime> times = measure(options, "k_proj");
  REQUIRE(times.size() == 4);  // three of q_proj, then stopped
  for (size_t i = 0; i < times.size(); ++i) {
    CHECK(times[i].format == "int8");
    CHECK(times[i].activation_bits == 8);
    CHECK(times[i].n_tokens == options.n_tokens[i % 3]);
    CHECK(times[i].weight_bytes == times[i].rows * 2048 / 128 * (128 + 2));
  }
  CHECK(measure(small_options("w8a16"), "q_proj")[0].activation_bits == 16);
  CHECK(measure(small_options("fp16"), "q_proj")[0].format == "f16");
  for (const char* kernels : cpu_kernel_names()) {
    if (select_cpu_kernels(kernels) == nullptr) continue;
    options = small_options("w6a16");
    options.device_options.cpu_kernels = kernels;
    CHECK(measure(options, "q_proj").size() == 1);
  }
}

TEST_CASE("the kernel benchmark refuses what it does not know") {
  const auto never = [](const KernelTime&) { return false; };
  KernelBenchmarkOptions options = small_options("w4a4");
  CHECK(benchmark_kernels(options, never).code() == StatusCode::kUnsupportedValue);
  options = small_options("flexq");
  options.shape = "llama-4";
  CHECK(benchmark_kernels(options, never).code() == StatusCode::kUnsupportedValue);
  options = small_options("flexq");
  options.device_options.cpu_kernels = "neon";
  CHECK_FALSE(benchmark_kernels(options, never).ok());
}

}  // namespace flexq::test
