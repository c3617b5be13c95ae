// The kernel benchmark on the substitute runtime, with a substitute for cuBLASLt: what is measured,
// what is said where there is no library, and that no call's failure leaks or is swallowed.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "cuda/substitute_backend.h"
#include "device/cuda/cublaslt_library.h"
#include "eval/kernel_benchmark.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

const std::string kLibrary = FLEXQ_SUBSTITUTE_CUBLASLT;

// The variable that says where the library is, until the end of the scope.
class LibraryPath {
 public:
  explicit LibraryPath(const std::string& path) { setenv("FLEXQ_CUBLASLT", path.c_str(), 1); }
  ~LibraryPath() { unsetenv("FLEXQ_CUBLASLT"); }
};

KernelBenchmarkOptions cuda_options() {
  KernelBenchmarkOptions options;
  options.device = "cuda:0";
  options.n_threads = 1;
  for (int32_t i = 0; i < kBaselineCount; ++i)
    options.baselines.push_back(static_cast<Baseline>(i));
  return options;
}

KernelBenchmarkRequest small_request(std::vector<int32_t> n_tokens) {
  KernelBenchmarkRequest request;
  request.matrix_rows = 256;
  request.matrix_cols = 384;
  request.n_tokens = std::move(n_tokens);
  request.repeats = 1;
  request.working_set_bytes = 1;
  return request;
}

constexpr int64_t kBandwidthBytes = 1 << 16;

Status run_all(const KernelBenchmarkOptions& options, const KernelBenchmarkRequest& request,
               std::vector<KernelTime>& times, std::string* no_baselines = nullptr) {
  FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<KernelBenchmark> benchmark,
                         KernelBenchmark::open(options, kBandwidthBytes));
  if (no_baselines != nullptr) *no_baselines = benchmark->machine().no_baselines;
  return benchmark->run(request, [&](const KernelTime& time, int64_t, int64_t) {
    times.push_back(time);
    return false;
  });
}

int64_t calls_of(const char* name) {
  const auto& calls = SubstituteBackend::cuda().calls_by_name();
  const auto found = calls.find(name);
  return found == calls.end() ? 0 : found->second;
}

}  // namespace

TEST_CASE("kernels on cuda are timed as graphs, beside reading and the baselines") {
  const SubstituteBackend backend;
  const LibraryPath path(kLibrary);
  {
    const auto benchmark = KernelBenchmark::open(cuda_options(), kBandwidthBytes);
    REQUIRE_MESSAGE(benchmark.ok(), benchmark.status().message());
    const KernelMachine& machine = benchmark.value()->machine();
    CHECK(machine.device.id == "cuda:0");
    CHECK(machine.baseline_library == "cuBLASLt 13.2.5");
    CHECK(machine.no_baselines == "");
    CHECK(machine.read_bandwidth > 0);
    // 132 multiprocessors at 1 GHz, 8192 operations per cycle.
    CHECK(machine.tensor_rates.int8 == 132.0 * 1e9 * 8192);
    CHECK(machine.tensor_rates.fp16 == machine.tensor_rates.int8 / 2);

    const int64_t graphs = calls_of("graph_launch");
    std::vector<KernelTime> times;
    const Status status = benchmark.value()->run(
        small_request({1, 3, 5, 7}), [&](const KernelTime& time, int64_t done, int64_t total) {
          times.push_back(time);
          CHECK(done == static_cast<int64_t>(times.size()));
          CHECK(total == 4);
          return times.size() == 3;  // seven tokens are an error
        });
    REQUIRE_MESSAGE(status.ok(), status.message());
    CHECK(calls_of("graph_launch") > graphs);
    REQUIRE(times.size() == 3);
    for (const KernelTime& time : times) {
      CAPTURE(time.n_tokens);
      CHECK(time.layer == "matrix");
      CHECK(time.format == "int6");
      CHECK(time.activation_bits == 6);
      CHECK(time.rows == 256);
      CHECK(time.cols == 384);
      CHECK(time.weight_bytes == 256 * 384 * 6 / 8 + 256 * 3 * 2);
      CHECK(time.microseconds > 0);
      CHECK(time.read_microseconds > 0);
      CHECK(time.floor_microseconds ==
            doctest::Approx(1e6 * static_cast<double>(time.weight_bytes) / machine.read_bandwidth));
      for (const double us : time.baseline_microseconds)
        CHECK((us > 0) == (time.n_tokens != 3));
    }
  }
  CHECK(SubstituteBackend::cuda().live().none());
  CHECK(SubstituteBackend::cuda().misuse() == "");
}

TEST_CASE("tuning on cuda times every configuration of a layer and names the chosen one") {
  const SubstituteBackend backend;
  KernelBenchmarkRequest request = small_request({1, 64});
  request.tune = true;
  std::vector<KernelTime> times;
  KernelBenchmarkOptions options = cuda_options();
  options.baselines = {};
  REQUIRE(run_all(options, request, times).ok());
  for (const int32_t n_tokens : request.n_tokens) {
    CAPTURE(n_tokens);
    std::set<std::string> names;
    int32_t n_chosen = 0;
    for (const KernelTime& time : times) {
      if (time.n_tokens != n_tokens) continue;
      CHECK(names.insert(time.configuration).second);
      CHECK(time.microseconds > 0);
      n_chosen += time.chosen ? 1 : 0;
    }
    CHECK(names.size() > 2);
    CHECK(n_chosen == 1);
  }
  // A layer without quantized input has one kernel.
  request.policy = "fp16";
  times.clear();
  REQUIRE(run_all(options, request, times).ok());
  REQUIRE(times.size() == 2);
  CHECK(times[0].configuration == "");
}

TEST_CASE("a baseline whose algorithms all fail ends the benchmark with the library's word") {
  const SubstituteBackend backend;
  const LibraryPath path(kLibrary);
  std::vector<KernelTime> times;
  const Status status = run_all(cuda_options(), small_request({7}), times);
  CHECK(status.code() == StatusCode::kInternal);
  CHECK(status.message().find("cuBLASLt: a product: substitute") != std::string::npos);
  CHECK(SubstituteBackend::cuda().live().none());
}

TEST_CASE("without cuBLASLt everything else is measured and the reason is told") {
  struct Case {
    std::string path;
    std::vector<std::string> parts;
  };
  const TemporaryDirectory empty;
  const Case cases[] = {
      {"/absent/libcublasLt.so.13", {"expected one of /absent/libcublasLt.so.13, found none"}},
      {empty.path(), {empty.path() + "/libcublasLt.so.13", empty.path() + "/libcublasLt.so.12"}},
      {"libm.so.6", {"libm.so.6 has no function cublasLtGetVersion"}}};
  for (const Case& one : cases) {
    CAPTURE(one.path);
    const SubstituteBackend backend;
    const LibraryPath path(one.path);
    std::vector<KernelTime> times;
    std::string no_baselines;
    const Status status = run_all(cuda_options(), small_request({1}), times, &no_baselines);
    REQUIRE_MESSAGE(status.ok(), status.message());
    CAPTURE(no_baselines);
    for (const std::string& part : one.parts)
      CHECK(no_baselines.find(part) != std::string::npos);
    REQUIRE(times.size() == 1);
    CHECK(times[0].microseconds > 0);
    for (const double us : times[0].baseline_microseconds)
      CHECK(us == 0);
  }
}

TEST_CASE("cuBLASLt is found in a folder, and otherwise by name before the toolkit's place") {
  const TemporaryDirectory folder;
  std::filesystem::create_symlink(kLibrary, folder.file("libcublasLt.so.12"));
  const std::vector<std::string> in_folder = cublaslt_candidates(folder.path().c_str());
  const Result<CublasLt> found = open_cublaslt(in_folder);
  REQUIRE_MESSAGE(found.ok(), found.status().message());
  CHECK(found->version() == "13.2.5");
  const std::vector<std::string> usual = cublaslt_candidates(nullptr);
  REQUIRE(usual.size() == 4);
  CHECK(usual[0] == "libcublasLt.so.13");
  CHECK(usual[1] == "libcublasLt.so.12");
  CHECK(usual[2] == "/usr/local/cuda/lib64/libcublasLt.so.13");
}

TEST_CASE("T12_cuda_call_failures: in the kernel benchmark") {
  const LibraryPath path(kLibrary);
  KernelBenchmarkOptions options = cuda_options();
  options.baselines = {Baseline::kI8Rows};  // makes every call that the others make
  for (const cudaError_t error : {cudaErrorMemoryAllocation, cudaErrorIllegalAddress}) {
    const bool lost = error == cudaErrorIllegalAddress;
    int64_t n_seen = 0;
    for (int64_t k = 0;; ++k) {
      CAPTURE(k);
      const SubstituteBackend backend;
      SubstituteCuda& cuda = SubstituteBackend::cuda();
      cuda.fail_call(k, error);
      std::vector<KernelTime> times;
      const Status status = run_all(options, small_request({1}), times);
      if (!cuda.failed()) {
        CHECK(status.ok());
        CHECK(n_seen > 100);
        break;
      }
      if (!status.ok()) {
        ++n_seen;
        const StatusCode expected = lost ? StatusCode::kDeviceLost : StatusCode::kOutOfMemory;
        INFO(status.message());
        REQUIRE(status.code() == expected);
      }
      CHECK(cuda.misuse() == "");
      CHECK(cuda.live().pinned_blocks == 0);
      if (!lost) CHECK(cuda.live().none());
    }
  }
}

}  // namespace flexq::test
