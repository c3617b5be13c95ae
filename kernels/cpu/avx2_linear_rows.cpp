// linear_dense and linear_i8_rows with AVX2: lanes run along K as dot16 says, two registers per
// output. Blocks of 3 tokens x 2 rows fill 12 of the 16 registers with accumulators; one token
// takes 4 rows at a time. Rows go in tiles that stay in L2 while all tokens pass, tokens in blocks
// that stay in L1.
#include <immintrin.h>

#include "kernels/cpu/avx2_lanes.h"
#include "kernels/cpu/avx2_table.h"

namespace flexq::avx2 {
namespace {

constexpr int64_t kRowTile = 32;
constexpr int64_t kTokenBlock = 3;

struct RowArgs {
  int64_t n_cols;
  int64_t x_stride;
  int64_t out_stride;
};

// kTokens x kRows outputs. w: the first row; x: the first token; out: (first token, first row).
// scales: of the first row, or null for weights that have none.
template <typename Type, int kTokens, int kRows>
void row_block(const typename Type::Element* w, const float* scales, const float* x, float* out,
               const RowArgs& args) {
  __m256 low[kTokens][kRows];
  __m256 high[kTokens][kRows];
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r)
      low[t][r] = high[t][r] = _mm256_setzero_ps();
  }
  int64_t k = 0;
  for (; k + kLanes <= args.n_cols; k += kLanes) {
    __m256 w_low[kRows];
    __m256 w_high[kRows];
    for (int r = 0; r < kRows; ++r) {
      w_low[r] = Type::load(w + r * args.n_cols + k);
      w_high[r] = Type::load(w + r * args.n_cols + k + kFloats);
    }
    for (int t = 0; t < kTokens; ++t) {
      const float* inputs = x + t * args.x_stride + k;
      for (int r = 0; r < kRows; ++r) {
        low[t][r] = _mm256_fmadd_ps(_mm256_loadu_ps(inputs), w_low[r], low[t][r]);
        high[t][r] = _mm256_fmadd_ps(_mm256_loadu_ps(inputs + kFloats), w_high[r], high[t][r]);
      }
    }
  }
  if (k < args.n_cols) {  // the ragged last step: missing elements count as +0 * +0
    const int64_t left = args.n_cols - k;
    const int64_t high_offset = k + min_int(left, kFloats);
    for (int r = 0; r < kRows; ++r) {
      const typename Type::Element* row = w + r * args.n_cols;
      const __m256 w_low = Type::load_few(row + k, left);
      const __m256 w_high = Type::load_few(row + high_offset, left - kFloats);
      for (int t = 0; t < kTokens; ++t) {
        const float* inputs = x + t * args.x_stride;
        low[t][r] = _mm256_fmadd_ps(load_floats(inputs + k, left), w_low, low[t][r]);
        high[t][r] =
            _mm256_fmadd_ps(load_floats(inputs + high_offset, left - kFloats), w_high, high[t][r]);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r) {
      const float dot = reduce_lanes(low[t][r], high[t][r]);
      out[t * args.out_stride + r] = scales != nullptr ? dot * scales[r] : dot;
    }
  }
}

inline const float* scales_from(const float* scales, int64_t row) {
  return scales != nullptr ? scales + row : nullptr;
}

// kTokens tokens, all rows of a tile.
template <typename Type, int kTokens>
void tile_rows(const typename Type::Element* w, const float* scales, const float* x, int64_t n_rows,
               float* out, const RowArgs& args) {
  constexpr int kRows = kTokens == 1 ? 4 : 2;
  int64_t row = 0;
  for (; row + kRows <= n_rows; row += kRows)
    row_block<Type, kTokens, kRows>(w + row * args.n_cols, scales_from(scales, row), x, out + row,
                                    args);
  for (; row < n_rows; ++row)
    row_block<Type, kTokens, 1>(w + row * args.n_cols, scales_from(scales, row), x, out + row,
                                args);
}

template <typename Type>
void linear_rows(const void* matrix, const float* scales, const float* x, int64_t n_tokens,
                 int64_t row_begin, int64_t row_end, float* out, const RowArgs& args) {
  const auto* w = static_cast<const typename Type::Element*>(matrix);
  for (int64_t row = row_begin; row < row_end; row += kRowTile) {
    const int64_t rows = min_int(kRowTile, row_end - row);
    const auto* tile = w + row * args.n_cols;
    const float* tile_scales = scales_from(scales, row);
    for (int64_t t = 0; t < n_tokens; t += kTokenBlock) {
      const float* inputs = x + t * args.x_stride;
      float* tile_out = out + t * args.out_stride + row;
      switch (min_int(kTokenBlock, n_tokens - t)) {
        case 1:
          tile_rows<Type, 1>(tile, tile_scales, inputs, rows, tile_out, args);
          break;
        case 2:
          tile_rows<Type, 2>(tile, tile_scales, inputs, rows, tile_out, args);
          break;
        default:
          tile_rows<Type, kTokenBlock>(tile, tile_scales, inputs, rows, tile_out, args);
      }
    }
  }
}

}  // namespace

void linear_dense(const void* w, DenseType type, int64_t n_cols, const float* x, int64_t x_stride,
                  int64_t n_tokens, int64_t row_begin, int64_t row_end, float* out,
                  int64_t out_stride) {
  const RowArgs args = {n_cols, x_stride, out_stride};
  switch (type) {
    case DenseType::kF32:
      return linear_rows<F32>(w, nullptr, x, n_tokens, row_begin, row_end, out, args);
    case DenseType::kF16:
      return linear_rows<F16>(w, nullptr, x, n_tokens, row_begin, row_end, out, args);
    case DenseType::kBF16:
      return linear_rows<BF16>(w, nullptr, x, n_tokens, row_begin, row_end, out, args);
  }
}

void linear_i8_rows(const Int8Rows& w, int64_t n_cols, const float* x, int64_t x_stride,
                    int64_t n_tokens, int64_t row_begin, int64_t row_end, float* out,
                    int64_t out_stride) {
  linear_rows<I8>(w.codes, w.scales, x, n_tokens, row_begin, row_end, out,
                  {n_cols, x_stride, out_stride});
}

}  // namespace flexq::avx2
