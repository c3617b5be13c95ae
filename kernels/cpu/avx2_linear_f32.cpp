// linear_w6_f32 and linear_w8_f32 with AVX2: lanes are rows, so that every output keeps its
// ascending order of k.
//
// A fused multiply-add waits 4 cycles for the one before it, and 16 rows are only two chains. One
// token (decode) therefore runs two blocks side by side, converted in registers. More tokens
// convert a unit once into 8 KB of L1 and run 6 tokens x 16 rows: 12 chains.
#include <immintrin.h>

#include "kernels/cpu/avx2_lanes.h"
#include "kernels/cpu/avx2_table.h"
#include "kernels/cpu/avx2_units.h"

namespace flexq::avx2 {
namespace {

using w6::kGroupSize;
using w6::kUnitRows;

constexpr int64_t kTokenTile = 48;
constexpr int64_t kTokenBlock = 6;

// Column kColumn of a step, for 8 rows, as (float)q.
template <typename Unit, int kColumn>
inline __m256 column_to_float(__m256i step) {
  __m256i u = kColumn > 0 ? _mm256_srli_epi32(step, 8 * kColumn) : step;
  if (kColumn < 3) u = _mm256_and_si256(u, _mm256_set1_epi32(0xff));
  return _mm256_sub_ps(_mm256_cvtepi32_ps(u), _mm256_set1_ps(Unit::kOffset));
}

// acc = fma(x[k], q[k], acc) over the 4 columns of a step.
template <typename Unit>
inline __m256 add_step(__m256i step, const float* x, __m256 acc) {
  acc = _mm256_fmadd_ps(_mm256_broadcast_ss(x), column_to_float<Unit, 0>(step), acc);
  acc = _mm256_fmadd_ps(_mm256_broadcast_ss(x + 1), column_to_float<Unit, 1>(step), acc);
  acc = _mm256_fmadd_ps(_mm256_broadcast_ss(x + 2), column_to_float<Unit, 2>(step), acc);
  return _mm256_fmadd_ps(_mm256_broadcast_ss(x + 3), column_to_float<Unit, 3>(step), acc);
}

// kBlocks blocks of 16 rows from `block` on for one token. out: the first row of `block`.
//
// The last group may be ragged: x is padded with zeros to meet the padded weights q = 0. The extra
// fma(+0, +0, gacc) changes nothing, since gacc is never -0: it starts at +0, x * q with an integer
// q does not underflow, and an exact zero sum is +0.
template <typename Unit, int kBlocks>
void blocks_one_token(const typename Unit::Packed& w, const float* x, int64_t block, float* out) {
  constexpr int kHalves = 2 * kBlocks;
  const int64_t groups = group_count(w.n_cols);
  const __m256 multiplier = _mm256_set1_ps(w.scale_multiplier);
  alignas(32) float padded[kGroupSize];
  __m256 acc[kHalves];
  for (int h = 0; h < kHalves; ++h)
    acc[h] = _mm256_setzero_ps();
  for (int64_t group = 0; group < groups; ++group) {
    const float* inputs = x + group * kGroupSize;
    const int64_t columns = w.n_cols - group * kGroupSize;
    if (columns < kGroupSize) {
      for (int64_t k = 0; k < kGroupSize; k += kFloats)
        _mm256_store_ps(padded + k, load_floats(k < columns ? inputs + k : inputs, columns - k));
      inputs = padded;
    }
    __m256 group_acc[kHalves];
    for (int h = 0; h < kHalves; ++h)
      group_acc[h] = _mm256_setzero_ps();
    for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
      QuadCodes u[kHalves];
      for (int h = 0; h < kHalves; ++h) {
        const int64_t unit_index = (block + h / 2) * groups + group;
        u[h] = Unit::load_quad(w.codes + unit_index * Unit::kBytes + quad * Unit::kQuadBytes +
                               h % 2 * kHalfPlaneBytes);
      }
      for (int step = 0; step < 4; ++step) {
        const float* step_inputs = inputs + quad * w6::kQuadColumns + step * 4;
        for (int h = 0; h < kHalves; ++h)
          group_acc[h] = add_step<Unit>(u[h].step[step], step_inputs, group_acc[h]);
      }
    }
    for (int h = 0; h < kHalves; ++h) {
      const uint16_t* scales = w.scales + ((block + h / 2) * groups + group) * kUnitRows;
      acc[h] = _mm256_fmadd_ps(group_acc[h], load_unit_scales(scales, h % 2, multiplier), acc[h]);
    }
  }
  for (int h = 0; h < kHalves; ++h) {
    const int64_t rows = w.n_rows - block * kUnitRows - h * kFloats;
    if (rows > 0) store_floats(out + h * kFloats, rows, acc[h]);
  }
}

// One step to 4 columns of 16 floats, of which this half is 8. weights: the step's first column.
template <typename Unit>
inline void store_step(__m256i step, float* weights) {
  _mm256_store_ps(weights, column_to_float<Unit, 0>(step));
  _mm256_store_ps(weights + kUnitRows, column_to_float<Unit, 1>(step));
  _mm256_store_ps(weights + 2 * kUnitRows, column_to_float<Unit, 2>(step));
  _mm256_store_ps(weights + 3 * kUnitRows, column_to_float<Unit, 3>(step));
}

// A unit to weights: (128 columns, 16 rows) floats, 32-byte aligned.
template <typename Unit>
void unpack_unit(const uint8_t* unit, float* weights) {
  for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
    for (int64_t half = 0; half < 2; ++half) {
      const QuadCodes u = Unit::load_quad(unit + quad * Unit::kQuadBytes + half * kHalfPlaneBytes);
      float* target = weights + quad * w6::kQuadColumns * kUnitRows + half * kFloats;
      for (int step = 0; step < 4; ++step)
        store_step<Unit>(u.step[step], target + step * 4 * kUnitRows);
    }
  }
}

// One converted unit for kTokens tokens. x: the first token's first column of the group.
template <int kTokens>
void unit_tokens(const float* weights, const float* x, int64_t x_stride, int64_t columns,
                 __m256 scales_low, __m256 scales_high, float* acc) {
  __m256 low[kTokens];
  __m256 high[kTokens];
  for (int t = 0; t < kTokens; ++t)
    low[t] = high[t] = _mm256_setzero_ps();
  for (int64_t k = 0; k < columns; ++k) {
    const __m256 weights_low = _mm256_load_ps(weights + k * kUnitRows);
    const __m256 weights_high = _mm256_load_ps(weights + k * kUnitRows + kFloats);
    for (int t = 0; t < kTokens; ++t) {
      const __m256 input = _mm256_broadcast_ss(x + t * x_stride + k);
      low[t] = _mm256_fmadd_ps(input, weights_low, low[t]);
      high[t] = _mm256_fmadd_ps(input, weights_high, high[t]);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    float* acc_low = acc + t * kUnitRows;
    float* acc_high = acc_low + kFloats;
    _mm256_store_ps(acc_low, _mm256_fmadd_ps(low[t], scales_low, _mm256_load_ps(acc_low)));
    _mm256_store_ps(acc_high, _mm256_fmadd_ps(high[t], scales_high, _mm256_load_ps(acc_high)));
  }
}

// One block of 16 rows for up to kTokenTile tokens. x: the first token; out: its first row of the
// block.
template <typename Unit>
void block_token_tile(const typename Unit::Packed& w, const float* x, int64_t x_stride,
                      int64_t block, int64_t tokens, float* out, int64_t out_stride) {
  const int64_t groups = group_count(w.n_cols);
  const __m256 multiplier = _mm256_set1_ps(w.scale_multiplier);
  alignas(32) float weights[kGroupSize * kUnitRows];
  alignas(32) float acc[kTokenTile * kUnitRows];
  for (int64_t i = 0; i < tokens * kUnitRows; i += kFloats)
    _mm256_store_ps(acc + i, _mm256_setzero_ps());
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t unit_index = block * groups + group;
    unpack_unit<Unit>(w.codes + unit_index * Unit::kBytes, weights);
    const uint16_t* scales = w.scales + unit_index * kUnitRows;
    const __m256 low = load_unit_scales(scales, 0, multiplier);
    const __m256 high = load_unit_scales(scales, 1, multiplier);
    const float* group_x = x + group * kGroupSize;
    const int64_t columns = min_int(kGroupSize, w.n_cols - group * kGroupSize);
    int64_t t = 0;
    for (; t + kTokenBlock <= tokens; t += kTokenBlock)
      unit_tokens<kTokenBlock>(weights, group_x + t * x_stride, x_stride, columns, low, high,
                               acc + t * kUnitRows);
    for (; t + 2 <= tokens; t += 2)
      unit_tokens<2>(weights, group_x + t * x_stride, x_stride, columns, low, high,
                     acc + t * kUnitRows);
    if (t < tokens)
      unit_tokens<1>(weights, group_x + t * x_stride, x_stride, columns, low, high,
                     acc + t * kUnitRows);
  }
  const int64_t rows = w.n_rows - block * kUnitRows;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* token_acc = acc + t * kUnitRows;
    float* token_out = out + t * out_stride;
    store_floats(token_out, rows, _mm256_load_ps(token_acc));
    if (rows > kFloats)
      store_floats(token_out + kFloats, rows - kFloats, _mm256_load_ps(token_acc + kFloats));
  }
}

template <typename Unit>
void linear_f32(const typename Unit::Packed& w, const float* x, int64_t x_stride, int64_t n_tokens,
                int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  if (n_tokens == 1) {
    int64_t block = block_begin;
    for (; block + 2 <= block_end; block += 2)
      blocks_one_token<Unit, 2>(w, x, block, out + block * kUnitRows);
    if (block < block_end) blocks_one_token<Unit, 1>(w, x, block, out + block * kUnitRows);
    return;
  }
  for (int64_t block = block_begin; block < block_end; ++block) {
    for (int64_t token = 0; token < n_tokens; token += kTokenTile) {
      block_token_tile<Unit>(w, x + token * x_stride, x_stride, block,
                             min_int(kTokenTile, n_tokens - token),
                             out + token * out_stride + block * kUnitRows, out_stride);
    }
  }
}

}  // namespace

void linear_w6_f32(const PackedW6& w, const float* x, int64_t x_stride, int64_t n_tokens,
                   int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  linear_f32<W6Unit>(w, x, x_stride, n_tokens, block_begin, block_end, out, out_stride);
}

void linear_w8_f32(const PackedW8& w, const float* x, int64_t x_stride, int64_t n_tokens,
                   int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  linear_f32<W8Unit>(w, x, x_stride, n_tokens, block_begin, block_end, out, out_stride);
}

}  // namespace flexq::avx2
