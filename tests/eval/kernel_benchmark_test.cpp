// The kernel benchmark measures every kind of layer and says what it measured. How fast is not for
// a test to judge.
#include "eval/kernel_benchmark.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"

namespace flexq::test {
namespace {

constexpr int64_t kBandwidthBytes = 1 << 20;

std::unique_ptr<KernelBenchmark> open_benchmark(const std::string& kernels = "auto") {
  KernelBenchmarkOptions options;
  options.n_threads = 2;
  options.device_options.cpu_kernels = kernels;
  Result<std::unique_ptr<KernelBenchmark>> benchmark =
      KernelBenchmark::open(options, kBandwidthBytes);
  REQUIRE_MESSAGE(benchmark.ok(), benchmark.status().message());
  return std::move(benchmark).value();
}

KernelBenchmarkRequest small_request(const std::string& policy) {
  KernelBenchmarkRequest request;
  request.policy = policy;
  request.repeats = 1;
  request.working_set_bytes = 1;
  return request;
}

// The measurements up to the first of the layers `last`.
std::vector<KernelTime> measure(const KernelBenchmarkRequest& request, const std::string& last,
                                const std::string& kernels = "auto") {
  const std::unique_ptr<KernelBenchmark> benchmark = open_benchmark(kernels);
  const KernelMachine& machine = benchmark->machine();
  CHECK(machine.read_bandwidth > 0);
  CHECK(machine.n_threads == 2);
  std::vector<KernelTime> times;
  const Status status =
      benchmark->run(request, [&](const KernelTime& time, int64_t done, int64_t total) {
        times.push_back(time);
        CHECK(done == static_cast<int64_t>(times.size()));
        CHECK(done <= total);
        return time.layer == last;
      });
  REQUIRE_MESSAGE(status.ok(), status.message());
  const CpuKernels* expected = select_cpu_kernels(kernels == "auto" ? nullptr : kernels.c_str());
  for (const KernelTime& time : times) {
    CHECK(time.microseconds > 0);
    CHECK(time.read_microseconds > 0);
    CHECK(time.floor_microseconds ==
          doctest::Approx(1e6 * static_cast<double>(time.weight_bytes) / machine.read_bandwidth));
    CHECK(time.kernels == expected->name);
    CHECK(time.configuration == "");
    CHECK(time.chosen);
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
  const Layer layers[] = {{"q_proj,o_proj", 2048, 2048},
                          {"k_proj,v_proj", 256, 2048},
                          {"gate_proj,up_proj", 5632, 2048},
                          {"down_proj", 2048, 5632},
                          {"lm_head", 32000, 2048}};
  const std::vector<KernelTime> times = measure(small_request("flexq"), "none");
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
  KernelBenchmarkRequest request = small_request("w8a8");
  request.n_tokens = {1, 3, 16};
  const std::vector<KernelTime> times = measure(request, "k_proj,v_proj");
  REQUIRE(times.size() == 4);  // three of q_proj, then stopped
  for (size_t i = 0; i < times.size(); ++i) {
    CHECK(times[i].format == "int8");
    CHECK(times[i].activation_bits == 8);
    CHECK(times[i].n_tokens == request.n_tokens[i % 3]);
    CHECK(times[i].weight_bytes == times[i].rows * 2048 / 128 * (128 + 2));
  }
  CHECK(measure(small_request("w8a16"), "q_proj,o_proj")[0].activation_bits == 16);
  CHECK(measure(small_request("fp16"), "q_proj,o_proj")[0].format == "f16");
  for (const char* kernels : cpu_kernel_names()) {
    if (select_cpu_kernels(kernels) == nullptr) continue;
    CHECK(measure(small_request("w6a16"), "q_proj,o_proj", kernels).size() == 1);
  }
}

TEST_CASE("the kernel benchmark takes a matrix of any size, in the precision of a q_proj") {
  KernelBenchmarkRequest request = small_request("flexq");
  request.matrix_rows = 72;  // odd for every layout
  request.matrix_cols = 200;
  request.n_tokens = {1, 5};
  request.tune = true;  // nothing to choose from on the CPU
  const std::vector<KernelTime> times = measure(request, "none");
  REQUIRE(times.size() == 2);
  CHECK(times[0].layer == "matrix");
  CHECK(times[0].rows == 72);
  CHECK(times[0].cols == 200);
  CHECK(times[0].format == "int6");
  CHECK(times[0].activation_bits == 6);
  CHECK(times[1].n_tokens == 5);
}

TEST_CASE(
    "the kernel benchmark refuses what it does not know, and says why there are no baselines") {
  const auto never = [](const KernelTime&, int64_t, int64_t) { return false; };
  const std::unique_ptr<KernelBenchmark> benchmark = open_benchmark();
  CHECK(benchmark->machine().no_baselines == "");  // none were asked for
  CHECK(benchmark->run(small_request("w4a4"), never).code() == StatusCode::kUnsupportedValue);
  KernelBenchmarkRequest request = small_request("w4a4");
  request.matrix_rows = request.matrix_cols = 128;
  CHECK(benchmark->run(request, never).code() == StatusCode::kUnsupportedValue);
  request = small_request("flexq");
  request.shape = "llama-4";
  CHECK(benchmark->run(request, never).code() == StatusCode::kUnsupportedValue);

  KernelBenchmarkOptions options;
  options.device_options.cpu_kernels = "neon";
  CHECK_FALSE(KernelBenchmark::open(options, kBandwidthBytes).ok());
  options = KernelBenchmarkOptions();
  options.baselines = {Baseline::kI8};
  const auto on_cpu = KernelBenchmark::open(options, kBandwidthBytes);
  REQUIRE(on_cpu.ok());
  CHECK(on_cpu.value()->machine().baseline_library == "");
  CHECK(on_cpu.value()->machine().no_baselines == "cuBLASLt: expected a CUDA device");
}

}  // namespace flexq::test
