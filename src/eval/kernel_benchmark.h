// Times the linear kernels of one model shape on a device, beside the time that its memory needs
// for the same bytes: the floor of a decode step. On the CPU that is a loop of the same threads
// that only reads them; elsewhere the bytes over the speed of a copy inside the device's memory, of
// which every byte is read and written.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "device/device_registry.h"

namespace flexq {

struct KernelBenchmarkOptions {
  std::string shape = "tinyllama-1.1b";
  std::string policy = "flexq";  // gives the formats of the layers
  std::string device = "cpu";
  DeviceOptions device_options;
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
  double read_microseconds = 0;  // the floor, measured in the same run
};

// Bytes per second at which a device copies inside its memory, reads and writes counted: of many
// megabytes, the best of a few.
Result<double> measure_copy_speed(Device& device);

// Calls report(time) after each measurement; true stops. kUnsupportedValue for an unknown shape,
// policy or kernel set; the errors of open_device.
Status benchmark_kernels(const KernelBenchmarkOptions& options,
                         FunctionRef<bool(const KernelTime&)> report);

}  // namespace flexq
