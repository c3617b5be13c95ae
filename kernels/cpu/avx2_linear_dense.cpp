// linear_dense with AVX2: lanes run along K as dot16 says, two registers per output. Blocks of 3
// tokens x 2 rows fill 12 of the 16 registers with accumulators; one token takes 4 rows at a time.
// Rows go in tiles that stay in L2 while all tokens pass, tokens in blocks that stay in L1.
#include <immintrin.h>

#include "kernels/cpu/avx2_lanes.h"
#include "kernels/cpu/avx2_table.h"

namespace flexq::avx2 {
namespace {

constexpr int64_t kRowTile = 32;
constexpr int64_t kTokenBlock = 3;

struct DenseArgs {
  int64_t n_cols;
  int64_t x_stride;
  int64_t out_stride;
};

// kTokens x kRows outputs. w: the first row; x: the first token; out: (first token, first row).
template <typename Type, int kTokens, int kRows>
void dense_block(const typename Type::Element* w, const float* x, float* out,
                 const DenseArgs& args) {
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
    for (int r = 0; r < kRows; ++r)
      out[t * args.out_stride + r] = reduce_lanes(low[t][r], high[t][r]);
  }
}

// kTokens tokens, all rows of a tile.
template <typename Type, int kTokens>
void dense_rows(const typename Type::Element* w, const float* x, int64_t n_rows, float* out,
                const DenseArgs& args) {
  constexpr int kRows = kTokens == 1 ? 4 : 2;
  int64_t row = 0;
  for (; row + kRows <= n_rows; row += kRows)
    dense_block<Type, kTokens, kRows>(w + row * args.n_cols, x, out + row, args);
  for (; row < n_rows; ++row)
    dense_block<Type, kTokens, 1>(w + row * args.n_cols, x, out + row, args);
}

template <typename Type>
void dense_typed(const void* matrix, const float* x, int64_t n_tokens, int64_t row_begin,
                 int64_t row_end, float* out, const DenseArgs& args) {
  const auto* w = static_cast<const typename Type::Element*>(matrix);
  for (int64_t row = row_begin; row < row_end; row += kRowTile) {
    const int64_t rows = min_int(kRowTile, row_end - row);
    const auto* tile = w + row * args.n_cols;
    for (int64_t t = 0; t < n_tokens; t += kTokenBlock) {
      const float* inputs = x + t * args.x_stride;
      float* tile_out = out + t * args.out_stride + row;
      switch (min_int(kTokenBlock, n_tokens - t)) {
        case 1:
          dense_rows<Type, 1>(tile, inputs, rows, tile_out, args);
          break;
        case 2:
          dense_rows<Type, 2>(tile, inputs, rows, tile_out, args);
          break;
        default:
          dense_rows<Type, kTokenBlock>(tile, inputs, rows, tile_out, args);
      }
    }
  }
}

}  // namespace

void linear_dense(const void* w, DenseType type, int64_t n_cols, const float* x, int64_t x_stride,
                  int64_t n_tokens, int64_t row_begin, int64_t row_end, float* out,
                  int64_t out_stride) {
  const DenseArgs args = {n_cols, x_stride, out_stride};
  switch (type) {
    case DenseType::kF32:
      return dense_typed<F32>(w, x, n_tokens, row_begin, row_end, out, args);
    case DenseType::kF16:
      return dense_typed<F16>(w, x, n_tokens, row_begin, row_end, out, args);
    case DenseType::kBF16:
      return dense_typed<BF16>(w, x, n_tokens, row_begin, row_end, out, args);
  }
}

}  // namespace flexq::avx2
