// Times linear layers on a device, one matrix at a time, beside what bounds and what competes with
// them, all in one run:
//
//   the floor     the weights' bytes at the best speed at which the device reads 1 GiB
//   reading       a kernel that reads this very matrix and does nothing else
//   baselines     other libraries' products of the same shape (device/linear_runner.h)
//
// and, to choose kernels by, every configuration of them that can compute the layer.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "device/device_registry.h"

namespace flexq {

struct KernelBenchmarkOptions {
  std::string device = "cpu";
  DeviceOptions device_options;
  int32_t n_threads = 0;            // 0: every processor
  std::vector<Baseline> baselines;  // none: their library is not looked for
};

// The matrices to time.
struct KernelBenchmarkRequest {
  std::string shape = "tinyllama-1.1b";  // a published model's layers and lm_head
  int64_t matrix_rows = 0;               // not 0: this one matrix instead,
  int64_t matrix_cols = 0;               // in the precision of a q_proj
  std::string policy = "flexq";          // gives the formats
  std::vector<int32_t> n_tokens{1};      // per call, each at least 1
  int32_t repeats = 7;                   // at least 1; the median counts
  // Copies of a matrix together, two at least; 0: more than the device's caches hold.
  int64_t working_set_bytes = 0;
  bool tune = false;  // every configuration instead of the baselines
};

// What the times were taken on.
struct KernelMachine {
  DeviceDescription device;
  int32_t n_threads = 0;
  double read_bandwidth = 0;  // bytes per second
  TensorRates tensor_rates;
  std::string baseline_library;  // "cuBLASLt 13.1.0", or "" where there is none
  std::string no_baselines;      // why there is none, where some were asked for
};

struct KernelTime {
  std::string layer;          // "q_proj,k_proj": layers of one shape and precision are timed once
  std::string kernels;        // the kernel set
  std::string configuration;  // tuning: which of its kernels, where there is a choice
  bool chosen = true;         // tuning: whether the device itself would have taken that one
  std::string format;         // "int6", "int8", "f16"
  int32_t activation_bits = 16;
  int64_t rows = 0;
  int64_t cols = 0;
  int32_t n_tokens = 0;
  int64_t weight_bytes = 0;
  double microseconds = 0;  // one call over the whole matrix
  double floor_microseconds = 0;
  double read_microseconds = 0;
  std::array<double, kBaselineCount> baseline_microseconds = {};  // by Baseline; 0: not measured
};

class KernelBenchmark {
 public:
  // Opens the device and the baselines' library and measures how fast memory is read, on
  // `bandwidth_bytes`. The errors of open_device.
  static Result<std::unique_ptr<KernelBenchmark>> open(const KernelBenchmarkOptions& options,
                                                       int64_t bandwidth_bytes = int64_t{1} << 30);
  const KernelMachine& machine() const { return machine_; }

  // Calls report(time, done, total) after each measurement, with how many of all pairs of a matrix
  // and a number of tokens are done; true stops. kUnsupportedValue for an unknown shape or policy.
  Status run(const KernelBenchmarkRequest& request,
             FunctionRef<bool(const KernelTime&, int64_t done, int64_t total)> report);

 private:
  struct Matrix;
  explicit KernelBenchmark(int32_t n_threads) : pool_(n_threads) {}
  // Packs random weights and copies them until they fill the working set.
  Status load(Matrix& matrix, int64_t working_set_bytes);
  // Times one matrix with time.n_tokens. report(time) for each configuration; true stops.
  Result<bool> measure(const KernelBenchmarkRequest& request, const Matrix& matrix,
                       KernelTime& time, FunctionRef<bool(const KernelTime&)> report);
  Status measure_baselines(const KernelBenchmarkRequest& request, KernelTime& time);

  ThreadPool pool_;
  std::shared_ptr<Device> device_;
  std::unique_ptr<ReadRunner> reader_;
  std::unique_ptr<BaselineRunner> baselines_;
  std::vector<Baseline> wanted_baselines_;
  KernelMachine machine_;
};

}  // namespace flexq
