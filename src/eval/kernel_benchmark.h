// Times the linear kernels of one model shape on the CPU, beside a loop that only reads the same
// bytes: the floor of a decode step.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"

namespace flexq {

struct KernelBenchmarkOptions {
  std::string shape = "tinyllama-1.1b";
  std::string policy = "flexq";  // gives the formats of the layers
  std::string cpu_kernels = "auto";
  int32_t n_threads = 0;                // 0: every processor
  std::vector<int32_t> n_tokens{1};     // tokens per call, each at least 1
  int32_t repeats = 7;                  // at least 1; the median counts
  int64_t working_set_bytes = 1 << 30;  // copies of a matrix together: more than caches hold
};

struct KernelTime {
  std::string layer;    // "q_proj", ..., "lm_head"
  std::string kernels;  // the kernel set
  std::string format;   // "int6", "int8", "f16"
  int32_t activation_bits = 16;
  int64_t rows = 0;
  int64_t cols = 0;
  int32_t n_tokens = 0;
  int32_t n_threads = 0;
  int64_t weight_bytes = 0;
  double microseconds = 0;       // one call over the whole matrix
  double read_microseconds = 0;  // the same bytes summed by the same threads, in the same run
};

// Calls report(time) after each measurement; true stops. kUnsupportedValue for an unknown shape,
// policy or kernel set.
Status benchmark_kernels(const KernelBenchmarkOptions& options,
                         FunctionRef<bool(const KernelTime&)> report);

}  // namespace flexq
