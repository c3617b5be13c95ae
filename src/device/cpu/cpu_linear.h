// Linear layers on the CPU: quantizes inputs, splits output rows over the pool, picks the kernel
// for the weight format. Sums are never split, so results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "device/device.h"
#include "kernels/cpu/cpu_kernels.h"

namespace flexq {

// Rows that a task may not split: a unit of the packed layouts.
inline constexpr int64_t kLinearBlockRows = 16;

// Room for the quantized rows of one input, borrowed from a workspace.
struct CodeBuffers {
  int8_t* codes = nullptr;   // (n_tokens, widest input rounded up to 128)
  float* scales = nullptr;   // (n_tokens, groups of the widest input)
  int32_t* sums = nullptr;   // (n_tokens, groups of the widest input)
  float* rounded = nullptr;  // (n_tokens, widest input) code * scale, for unquantized weights; or
                             // null where there are none with quantized inputs
};

// The input of a linear layer: fp32 rows, and the same rows quantized where a layer asks for it.
struct LinearInput {
  const float* rows = nullptr;  // (n_tokens, width)
  int64_t width = 0;
  int32_t n_tokens = 0;
  int32_t quantized_bits = 16;  // what the code buffers hold now
};

class CpuLinear {
 public:
  CpuLinear(const CpuKernels& kernels, const CodeBuffers& buffers, ThreadPool& pool)
      : kernels_(kernels), buffers_(buffers), pool_(pool) {}

  static int64_t block_count(const DeviceLinear& linear);

  // Quantizes every row of the input to `bits`, and rounds it where there is room for that, unless
  // it is there already; 16 does nothing.
  void quantize(LinearInput& input, int32_t bits) const;

  // Splits `n_blocks` blocks of 16 rows into tasks for the pool: body(block_begin, block_end).
  void for_blocks(int64_t n_blocks, FunctionRef<void(int64_t, int64_t)> body) const;

  // out[:, rows of the blocks] = W input + bias. out: (n_tokens, rows of W). For one thread.
  void apply(const DeviceLinear& linear, const LinearInput& input, int64_t block_begin,
             int64_t block_end, float* out) const;

  // y[:, rows of the blocks] += out[:, same rows]; both (n_tokens, rows of W).
  void add_rows(const DeviceLinear& linear, int32_t n_tokens, int64_t block_begin,
                int64_t block_end, const float* out, float* y) const;

  // out[:, rows of the blocks] = W input for an unquantized or 8-bit-row matrix.
  void apply_matrix(const DeviceMatrix& w, const LinearInput& input, int64_t block_begin,
                    int64_t block_end, float* out) const;

 private:
  // What unquantized weights see of an input that was quantized.
  LinearInput rounded(const LinearInput& input) const;
  void apply_grouped(const DeviceLinear& linear, const LinearInput& input, int64_t block_begin,
                     int64_t block_end, float* out) const;

  const CpuKernels& kernels_;
  const CodeBuffers buffers_;
  ThreadPool& pool_;
};

}  // namespace flexq
