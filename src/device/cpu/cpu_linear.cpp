#include "device/cpu/cpu_linear.h"

#include <algorithm>

#include "base/checked.h"

namespace flexq {
namespace {

constexpr int64_t kRounds = 8;

// Blocks of one task of a round when `left` blocks are left: half a thread's share, in the last
// round all of it. A multiple of 2, since kernels take blocks by twos and fours.
int64_t round_blocks(int64_t left, int64_t n_threads, int64_t round) {
  if (round + 1 >= kRounds) return ceil_div(left, n_threads);
  return align_up(ceil_div(left, 2 * n_threads), 2);
}

DenseType dense_type(WeightFormat format) {
  return format == WeightFormat::kF32   ? DenseType::kF32
         : format == WeightFormat::kF16 ? DenseType::kF16
                                        : DenseType::kBF16;
}

// The matrix as a kernel sees it: PackedW6 or PackedW8.
template <typename Packed>
Packed packed_matrix(const DeviceMatrix& w) {
  Packed packed;
  packed.codes = w.values;
  packed.scales = reinterpret_cast<const uint16_t*>(w.scales);
  packed.scale_multiplier = w.scale_multiplier;
  packed.n_rows = w.rows;
  packed.n_cols = w.cols;
  return packed;
}

}  // namespace

int64_t CpuLinear::block_count(const DeviceLinear& linear) {
  return ceil_div(linear.weight.rows, kLinearBlockRows);
}

void CpuLinear::quantize(LinearInput& input, int32_t bits) const {
  if (bits == 16 || bits == input.quantized_bits) return;
  const int64_t groups = ceil_div(input.width, kGroupSize);
  pool_.parallel_for(input.n_tokens, [&](int64_t t, int) {
    int8_t* codes = buffers_.codes + t * groups * kGroupSize;
    const float* scales = buffers_.scales + t * groups;
    kernels_.quantize_row(input.rows + t * input.width, input.width, bits, codes,
                          buffers_.scales + t * groups, buffers_.sums + t * groups);
    if (buffers_.rounded == nullptr) return;
    float* rounded = buffers_.rounded + t * input.width;
    for (int64_t i = 0; i < input.width; ++i)
      rounded[i] = static_cast<float>(codes[i]) * scales[i / kGroupSize];
  });
  input.quantized_bits = bits;
}

LinearInput CpuLinear::rounded(const LinearInput& input) const {
  LinearInput rounded = input;
  rounded.rows = buffers_.rounded;
  return rounded;
}

void CpuLinear::for_blocks(int64_t n_blocks, FunctionRef<void(int64_t, int64_t)> body) const {
  // Each round hands every thread half of its share of what is left: long streams of weights first,
  // short ones at the end, so that nobody waits long for the last thread.
  const int64_t n_threads = pool_.n_threads();
  const auto first_block = [&](int64_t task) {
    int64_t begin = 0;  // of the task's round
    int64_t round = 0;
    for (; round < task / n_threads && begin < n_blocks; ++round)
      begin += round_blocks(n_blocks - begin, n_threads, round) * n_threads;
    if (begin >= n_blocks) return n_blocks;
    const int64_t size = round_blocks(n_blocks - begin, n_threads, round);
    return std::min(n_blocks, begin + task % n_threads * size);
  };
  pool_.parallel_for(n_threads * kRounds, [&](int64_t task, int) {
    const int64_t begin = first_block(task);
    const int64_t end = first_block(task + 1);
    if (begin < end) body(begin, end);
  });
}

void CpuLinear::apply_grouped(const DeviceLinear& linear, const LinearInput& input,
                              int64_t block_begin, int64_t block_end, float* out) const {
  const DeviceMatrix& w = linear.weight;
  const QuantizedRows rows{buffers_.codes, buffers_.scales, buffers_.sums};
  const bool quantized_input = linear.activation_bits < 16;
  if (w.format == WeightFormat::kInt6Group) {
    const auto packed = packed_matrix<PackedW6>(w);
    if (quantized_input)
      kernels_.linear_w6_int8(packed, rows, input.n_tokens, block_begin, block_end, out, w.rows);
    else
      kernels_.linear_w6_f32(packed, input.rows, input.width, input.n_tokens, block_begin,
                             block_end, out, w.rows);
  } else {
    const auto packed = packed_matrix<PackedW8>(w);
    if (quantized_input)
      kernels_.linear_w8_int8(packed, rows, input.n_tokens, block_begin, block_end, out, w.rows);
    else
      kernels_.linear_w8_f32(packed, input.rows, input.width, input.n_tokens, block_begin,
                             block_end, out, w.rows);
  }
}

void CpuLinear::apply_matrix(const DeviceMatrix& w, const LinearInput& input, int64_t block_begin,
                             int64_t block_end, float* out) const {
  const int64_t row_begin = block_begin * kLinearBlockRows;
  const int64_t row_end = std::min(w.rows, block_end * kLinearBlockRows);
  if (w.format == WeightFormat::kInt8Row) {
    const Int8Rows rows{reinterpret_cast<const int8_t*>(w.values),
                        reinterpret_cast<const float*>(w.scales)};
    kernels_.linear_i8_rows(rows, w.cols, input.rows, input.width, input.n_tokens, row_begin,
                            row_end, out, w.rows);
  } else {
    kernels_.linear_dense(w.values, dense_type(w.format), w.cols, input.rows, input.width,
                          input.n_tokens, row_begin, row_end, out, w.rows);
  }
}

void CpuLinear::apply(const DeviceLinear& linear, const LinearInput& input, int64_t block_begin,
                      int64_t block_end, float* out) const {
  const DeviceMatrix& w = linear.weight;
  if (is_grouped(w.format))
    apply_grouped(linear, input, block_begin, block_end, out);
  else
    apply_matrix(w, linear.activation_bits < 16 ? rounded(input) : input, block_begin, block_end,
                 out);
  if (linear.bias == nullptr) return;
  const int64_t row_begin = block_begin * kLinearBlockRows;
  const int64_t n_rows = std::min(w.rows, block_end * kLinearBlockRows) - row_begin;
  for (int32_t t = 0; t < input.n_tokens; ++t)
    kernels_.add(out + t * w.rows + row_begin, linear.bias + row_begin, n_rows);
}

void CpuLinear::add_rows(const DeviceLinear& linear, int32_t n_tokens, int64_t block_begin,
                         int64_t block_end, const float* out, float* y) const {
  const int64_t n = linear.weight.rows;
  const int64_t row_begin = block_begin * kLinearBlockRows;
  const int64_t n_rows = std::min(n, block_end * kLinearBlockRows) - row_begin;
  for (int32_t t = 0; t < n_tokens; ++t)
    kernels_.add(y + t * n + row_begin, out + t * n + row_begin, n_rows);
}

}  // namespace flexq
