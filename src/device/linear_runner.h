// What kernel benchmarks time on a device: single linear layers on random input, and beside them a
// kernel that only reads the same bytes, and what other libraries make of the same product.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/layout/weight_format.h"

namespace flexq {

struct DeviceLinear;

// The product of a linear layer: (n_tokens, n_cols) by the transpose of (n_rows, n_cols).
struct LinearShape {
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  int32_t n_tokens = 0;
};

// All times are microseconds of one call, medians of `repeats`; calls visit copies of the weights
// in turn, so that none finds its own in a cache where they are large enough together.
class LinearRunner {
 public:
  virtual ~LinearRunner() = default;
  // One call multiplies by one matrix; all have one shape, format and activation bits.
  virtual Result<double> time(std::span<const DeviceLinear> copies, int32_t repeats) = 0;

  // The ways in which the device's kernels can compute such a layer, by name, where there is a
  // choice to make; index of the one that it chooses.
  struct Configurations {
    std::vector<std::string> names;
    size_t chosen = 0;
  };
  virtual Configurations configurations(const DeviceLinear&) const { return {}; }
  // As time(), by configurations().names[index].
  virtual Result<double> time_configuration(size_t, std::span<const DeviceLinear>, int32_t) {
    return Status::error(StatusCode::kUnsupportedValue, "this device has no choice of kernels");
  }
};

// Reads memory and does nothing else: what no kernel can be faster than.
class ReadRunner {
 public:
  virtual ~ReadRunner() = default;
  // Bytes per second over so many bytes, the best of several passes. They should be more than
  // caches hold.
  virtual Result<double> bandwidth(int64_t bytes) = 0;
  // One call reads one block; all have one size, a multiple of 64 bytes.
  virtual Result<double> time(std::span<const std::span<const uint8_t>> blocks,
                              int32_t repeats) = 0;
};

// Products of another library that ours are compared with.
enum class Baseline : int32_t {
  kF16 = 0,     // fp16, sums in fp32
  kI8 = 1,      // int8 to int32, without any scale
  kFp8 = 2,     // e4m3 to fp16, sums in fp32
  kI8Rows = 3,  // SmoothQuant's W8A8: int8, scales per token and per output channel, to fp16
};
inline constexpr const char* kBaselineNames[] = {"fp16", "int8", "fp8", "w8a8-row"};
inline constexpr int32_t kBaselineCount = 4;

class BaselineRunner {
 public:
  virtual ~BaselineRunner() = default;
  virtual std::string library() const = 0;  // "cuBLASLt 13.1.0"
  // The best of the library's algorithms. working_set_bytes: of all copies of the weights together.
  // kUnsupportedValue where the library cannot.
  virtual Result<double> time(Baseline baseline, const LinearShape& shape,
                              int64_t working_set_bytes, int32_t repeats) = 0;
};

// Operations per second at which the device's tensor cores multiply and add, two per product; 0
// where that is not known.
struct TensorRates {
  double int8 = 0;
  double fp16 = 0;
};

}  // namespace flexq
