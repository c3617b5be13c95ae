// linear_dense and linear_i8_rows with AVX-512: lanes run along K as dot16 says, one register per
// output. Blocks of 6 tokens x 4 rows fill 24 of the 32 registers with sums; one token reads
// four streams of rows. Rows go in tiles that stay in L2 while all tokens pass, tokens in blocks
// that stay in L1.
#include <immintrin.h>

#include "kernels/cpu/avx512_lanes.h"
#include "kernels/cpu/avx512_table.h"

namespace flexq::avx512 {
namespace {

constexpr int64_t kRowTile = 32;
constexpr int64_t kTokenBlock = 6;

struct RowArgs {
  int64_t n_cols;
  int64_t x_stride;
  int64_t out_stride;
};

inline const float* scales_from(const float* scales, int64_t row) {
  return scales != nullptr ? scales + row : nullptr;
}

// kTokens x kRows outputs. w: the first row; x: the first token; out: (first token, first row).
// scales: of the first row, or null for weights that have none.
template <typename Type, int kTokens, int kRows>
void row_block(const typename Type::Element* w, const float* scales, const float* x, float* out,
               const RowArgs& args) {
  __m512 lanes[kTokens][kRows];
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r)
      lanes[t][r] = _mm512_setzero_ps();
  }
  constexpr int64_t kLine = 64 / sizeof(typename Type::Element);
  int64_t k = 0;
  for (; k + kLanes <= args.n_cols; k += kLanes) {
    if (k % kLine == 0) {
      for (int r = 0; r < kRows; ++r) {
        const typename Type::Element* line = w + r * args.n_cols + k;
        _mm_prefetch(line + kRows * args.n_cols, _MM_HINT_T1);  // the next block of rows
        _mm_prefetch(line + 4 * kLine, _MM_HINT_T0);
      }
    }
    __m512 weights[kRows];
    for (int r = 0; r < kRows; ++r)
      weights[r] = Type::load(w + r * args.n_cols + k);
    for (int t = 0; t < kTokens; ++t) {
      const __m512 inputs = _mm512_loadu_ps(x + t * args.x_stride + k);
      for (int r = 0; r < kRows; ++r)
        lanes[t][r] = multiply_add(inputs, weights[r], lanes[t][r]);
    }
  }
  if (k < args.n_cols) {  // the ragged last step: missing elements count as +0 * +0
    const int64_t left = args.n_cols - k;
    for (int r = 0; r < kRows; ++r) {
      const __m512 weights = Type::load_few(w + r * args.n_cols + k, left);
      for (int t = 0; t < kTokens; ++t)
        lanes[t][r] =
            multiply_add(load_floats(x + t * args.x_stride + k, left), weights, lanes[t][r]);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    float* token_out = out + t * args.out_stride;
    if constexpr (kRows % 4 == 0) {
      for (int r = 0; r < kRows; r += 4) {
        __m128 dots = reduce_4(lanes[t][r], lanes[t][r + 1], lanes[t][r + 2], lanes[t][r + 3]);
        if (scales != nullptr) dots = _mm_mul_ps(dots, _mm_loadu_ps(scales + r));
        _mm_storeu_ps(token_out + r, dots);
      }
    } else {
      for (int r = 0; r < kRows; ++r) {
        const float dot = reduce_lanes(lanes[t][r]);
        token_out[r] = scales != nullptr ? dot * scales[r] : dot;
      }
    }
  }
}

// kTokens tokens, all rows of a tile.
template <typename Type, int kTokens>
void tile_rows(const typename Type::Element* w, const float* scales, const float* x, int64_t n_rows,
               float* out, const RowArgs& args) {
  constexpr int kRows = 4;
  int64_t row = 0;
  for (; row + kRows <= n_rows; row += kRows)
    row_block<Type, kTokens, kRows>(w + row * args.n_cols, scales_from(scales, row), x, out + row,
                                    args);
  for (; row < n_rows; ++row)
    row_block<Type, kTokens, 1>(w + row * args.n_cols, scales_from(scales, row), x, out + row,
                                args);
}

// `tokens` tokens, 1 to kTokenBlock.
template <typename Type, int kTokens = kTokenBlock>
void tile_some_tokens(const typename Type::Element* w, const float* scales, const float* x,
                      int64_t tokens, int64_t n_rows, float* out, const RowArgs& args) {
  if (tokens == kTokens) {
    tile_rows<Type, kTokens>(w, scales, x, n_rows, out, args);
  } else if constexpr (kTokens > 1) {
    tile_some_tokens<Type, kTokens - 1>(w, scales, x, tokens, n_rows, out, args);
  }
}

// One token. The rows are cut into four parts that are read side by side: each part is one long
// stream, which the processor's prefetcher follows, where neighbouring rows share pages and stop
// it.
template <typename Type>
void rows_one_token(const typename Type::Element* w, const float* scales, const float* x,
                    int64_t n_rows, float* out, const RowArgs& args) {
  constexpr int64_t kStreams = 4;
  constexpr int64_t kLine = 64 / sizeof(typename Type::Element);
  constexpr int64_t kNearLines = 16;
  constexpr int64_t kFarLines = 48;
  const int64_t stream_rows = n_rows / kStreams;
  const int64_t stream_stride = stream_rows * args.n_cols;
  for (int64_t row = 0; row < stream_rows; ++row) {
    const typename Type::Element* first = w + row * args.n_cols;
    __m512 lanes[kStreams];
    for (int i = 0; i < kStreams; ++i)
      lanes[i] = _mm512_setzero_ps();
    int64_t k = 0;
    for (; k + kLanes <= args.n_cols; k += kLanes) {
      if (k % kLine == 0) {
        for (int i = 0; i < kStreams; ++i) {
          const typename Type::Element* line = first + i * stream_stride + k;
          _mm_prefetch(line + kNearLines * kLine, _MM_HINT_T0);
          _mm_prefetch(line + kFarLines * kLine, _MM_HINT_T1);
        }
      }
      const __m512 inputs = _mm512_loadu_ps(x + k);
      for (int i = 0; i < kStreams; ++i)
        lanes[i] = multiply_add(inputs, Type::load(first + i * stream_stride + k), lanes[i]);
    }
    if (k < args.n_cols) {  // the ragged last step: missing elements count as +0 * +0
      const int64_t left = args.n_cols - k;
      const __m512 inputs = load_floats(x + k, left);
      for (int i = 0; i < kStreams; ++i)
        lanes[i] =
            multiply_add(inputs, Type::load_few(first + i * stream_stride + k, left), lanes[i]);
    }
    for (int i = 0; i < kStreams; ++i) {
      const int64_t index = row + i * stream_rows;
      const float dot = reduce_lanes(lanes[i]);
      out[index] = scales != nullptr ? dot * scales[index] : dot;
    }
  }
  for (int64_t row = kStreams * stream_rows; row < n_rows; ++row)
    row_block<Type, 1, 1>(w + row * args.n_cols, scales_from(scales, row), x, out + row, args);
}

template <typename Type>
void linear_rows(const void* matrix, const float* scales, const float* x, int64_t n_tokens,
                 int64_t row_begin, int64_t row_end, float* out, const RowArgs& args) {
  const auto* w = static_cast<const typename Type::Element*>(matrix);
  if (n_tokens == 1) {
    rows_one_token<Type>(w + row_begin * args.n_cols, scales_from(scales, row_begin), x,
                         row_end - row_begin, out + row_begin, args);
    return;
  }
  for (int64_t row = row_begin; row < row_end; row += kRowTile) {
    const int64_t rows = min_int(kRowTile, row_end - row);
    for (int64_t t = 0; t < n_tokens; t += kTokenBlock)
      tile_some_tokens<Type>(w + row * args.n_cols, scales_from(scales, row), x + t * args.x_stride,
                             min_int(kTokenBlock, n_tokens - t), rows,
                             out + t * args.out_stride + row, args);
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

}  // namespace flexq::avx512
