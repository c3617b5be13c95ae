// Linear layers over row-major matrices, in plain C++.
#include "kernels/cpu/portable_lanes.h"
#include "kernels/cpu/portable_table.h"

namespace flexq::portable {
namespace {

template <typename Element, typename Load>
void linear_dense_typed(const Element* w, Load load, int64_t n_cols, const float* x,
                        int64_t x_stride, int64_t n_tokens, int64_t row_begin, int64_t row_end,
                        float* out, int64_t out_stride) {
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t t = 0; t < n_tokens; ++t)
      out[t * out_stride + row] = dot16(x + t * x_stride, w + row * n_cols, n_cols, load);
  }
}

}  // namespace

void linear_dense(const void* w, DenseType type, int64_t n_cols, const float* x, int64_t x_stride,
                  int64_t n_tokens, int64_t row_begin, int64_t row_end, float* out,
                  int64_t out_stride) {
  switch (type) {
    case DenseType::kF32:
      return linear_dense_typed(static_cast<const float*>(w), load_f32, n_cols, x, x_stride,
                                n_tokens, row_begin, row_end, out, out_stride);
    case DenseType::kF16:
      return linear_dense_typed(static_cast<const uint16_t*>(w), load_f16, n_cols, x, x_stride,
                                n_tokens, row_begin, row_end, out, out_stride);
    case DenseType::kBF16:
      return linear_dense_typed(static_cast<const uint16_t*>(w), load_bf16, n_cols, x, x_stride,
                                n_tokens, row_begin, row_end, out, out_stride);
  }
}

void linear_i8_rows(const Int8Rows& w, int64_t n_cols, const float* x, int64_t x_stride,
                    int64_t n_tokens, int64_t row_begin, int64_t row_end, float* out,
                    int64_t out_stride) {
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t t = 0; t < n_tokens; ++t)
      out[t * out_stride + row] =
          dot16(x + t * x_stride, w.codes + row * n_cols, n_cols, load_i8) * w.scales[row];
  }
}

}  // namespace flexq::portable
