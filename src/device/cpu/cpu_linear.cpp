#include "device/cpu/cpu_linear.h"

#include <algorithm>

#include "base/checked.h"

namespace flexq {
namespace {

// Tasks per thread: enough to even out threads that were interrupted, few enough to claim cheaply.
constexpr int64_t kTasksPerThread = 4;

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
    kernels_.quantize_row(input.rows + t * input.width, input.width, bits,
                          buffers_.codes + t * groups * kGroupSize, buffers_.scales + t * groups,
                          buffers_.sums + t * groups);
  });
  input.quantized_bits = bits;
}

void CpuLinear::for_blocks(int64_t n_blocks, FunctionRef<void(int64_t, int64_t)> body) const {
  const int64_t per_task =
      std::max<int64_t>(1, ceil_div(n_blocks, pool_.n_threads() * kTasksPerThread));
  pool_.parallel_for(ceil_div(n_blocks, per_task), [&](int64_t task, int) {
    body(task * per_task, std::min(n_blocks, (task + 1) * per_task));
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
    apply_matrix(w, input, block_begin, block_end, out);
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
