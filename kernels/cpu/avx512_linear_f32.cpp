// linear_w6_f32 and linear_w8_f32 with AVX-512: lanes are rows, so that every output keeps its
// ascending order of k.
//
// A fused multiply-add waits 4 cycles for the one before it, and 16 rows are one chain. One token
// (decode) runs two blocks side by side, converted in registers: the 3 instructions that make a
// register of weights float fill the wait. More tokens convert the units of two blocks once into 16
// KB of L1 and run 12 tokens x 2 blocks: 24 chains.
#include <immintrin.h>

#include "kernels/cpu/avx512_lanes.h"
#include "kernels/cpu/avx512_table.h"
#include "kernels/cpu/avx512_units.h"

namespace flexq::avx512 {
namespace {

using w6::kGroupSize;
using w6::kUnitRows;

constexpr int64_t kTokenTile = 48;
constexpr int64_t kTokenBlock = 12;

// Column kColumn of a step as (float)q: u in the low mantissa bits of 2^23 is 2^23 + u.
template <typename Unit, int kColumn>
inline __m512 column_to_float(__m512i step) {
  constexpr int kAndOr = 0xea;  // vpternlog: (first & second) | third
  const __m512i u = kColumn > 0 ? _mm512_srli_epi32(step, 8 * kColumn) : step;
  const __m512i shifted =
      _mm512_ternarylogic_epi32(u, _mm512_set1_epi32(0xff), _mm512_set1_epi32(0x4b000000), kAndOr);
  return _mm512_sub_ps(_mm512_castsi512_ps(shifted), _mm512_set1_ps(0x1p23f + Unit::kOffset));
}

// acc = fma(x[k], q[k], acc) over the 4 columns of a step.
template <typename Unit>
inline __m512 add_step(__m512i step, const float* x, __m512 acc) {
  acc = _mm512_fmadd_ps(_mm512_set1_ps(x[0]), column_to_float<Unit, 0>(step), acc);
  acc = _mm512_fmadd_ps(_mm512_set1_ps(x[1]), column_to_float<Unit, 1>(step), acc);
  acc = _mm512_fmadd_ps(_mm512_set1_ps(x[2]), column_to_float<Unit, 2>(step), acc);
  return _mm512_fmadd_ps(_mm512_set1_ps(x[3]), column_to_float<Unit, 3>(step), acc);
}

// kBlocks blocks of 16 rows from `block` on for one token. out: the first row of `block`.
//
// The last group may be ragged: x is padded with zeros to meet the padded weights q = 0. The extra
// fma(+0, +0, gacc) changes nothing, since gacc is never -0: it starts at +0, x * q with an integer
// q does not underflow, and an exact zero sum is +0.
template <typename Unit, int kBlocks>
void blocks_one_token(const typename Unit::Packed& w, const float* x, int64_t block, float* out) {
  const int64_t groups = group_count(w.n_cols);
  const __m512 multiplier = _mm512_set1_ps(w.scale_multiplier);
  alignas(64) float padded[kGroupSize];
  __m512 acc[kBlocks];
  for (int b = 0; b < kBlocks; ++b)
    acc[b] = _mm512_setzero_ps();
  for (int64_t group = 0; group < groups; ++group) {
    const float* inputs = x + group * kGroupSize;
    const int64_t columns = w.n_cols - group * kGroupSize;
    if (columns < kGroupSize) {
      for (int64_t k = 0; k < kGroupSize; k += kLanes) {
        const int64_t first = min_int(k, columns);
        _mm512_store_ps(padded + k, load_floats(inputs + first, columns - first));
      }
      inputs = padded;
    }
    __m512 group_acc[kBlocks];
    for (int b = 0; b < kBlocks; ++b)
      group_acc[b] = _mm512_setzero_ps();
    for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
      QuadCodes u[kBlocks];
      for (int b = 0; b < kBlocks; ++b) {
        const int64_t unit_index = (block + b) * groups + group;
        const uint8_t* planes = w.codes + unit_index * Unit::kBytes + quad * Unit::kQuadBytes;
        prefetch_quad<Unit>(planes);
        u[b] = Unit::load_quad(planes);
      }
      for (int step = 0; step < 4; ++step) {
        const float* step_inputs = inputs + quad * w6::kQuadColumns + step * w8::kStepColumns;
        for (int b = 0; b < kBlocks; ++b)
          group_acc[b] = add_step<Unit>(u[b].step[step], step_inputs, group_acc[b]);
      }
    }
    for (int b = 0; b < kBlocks; ++b) {
      const uint16_t* scales = w.scales + ((block + b) * groups + group) * kUnitRows;
      acc[b] = _mm512_fmadd_ps(group_acc[b], load_unit_scales(scales, multiplier), acc[b]);
    }
  }
  for (int b = 0; b < kBlocks; ++b)
    store_floats(out + b * kUnitRows, w.n_rows - (block + b) * kUnitRows, acc[b]);
}

// A unit to weights: (128 columns, 16 rows) floats, 64-byte aligned.
template <typename Unit>
void unpack_unit(const uint8_t* unit, float* weights) {
  for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
    prefetch_quad<Unit>(unit + quad * Unit::kQuadBytes);
    const QuadCodes u = Unit::load_quad(unit + quad * Unit::kQuadBytes);
    for (int step = 0; step < 4; ++step) {
      float* columns = weights + (quad * 4 + step) * w8::kStepColumns * kUnitRows;
      _mm512_store_ps(columns, column_to_float<Unit, 0>(u.step[step]));
      _mm512_store_ps(columns + kUnitRows, column_to_float<Unit, 1>(u.step[step]));
      _mm512_store_ps(columns + 2 * kUnitRows, column_to_float<Unit, 2>(u.step[step]));
      _mm512_store_ps(columns + 3 * kUnitRows, column_to_float<Unit, 3>(u.step[step]));
    }
  }
}

// The converted units of kBlocks blocks for one group.
template <int kBlocks>
struct UnitColumn {
  alignas(64) float weights[kBlocks][kGroupSize * kUnitRows];
  __m512 scales[kBlocks];
  int64_t columns;  // of the group, 1 to 128
};

// kTokens tokens. x: the first token's first column of the group; acc: (kTokens, kBlocks, 16).
template <int kBlocks, int kTokens>
void unit_tokens(const UnitColumn<kBlocks>& units, const float* x, int64_t x_stride, float* acc) {
  __m512 group_acc[kTokens][kBlocks];
  for (int t = 0; t < kTokens; ++t) {
    for (int b = 0; b < kBlocks; ++b)
      group_acc[t][b] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < units.columns; ++k) {
    __m512 weights[kBlocks];
    for (int b = 0; b < kBlocks; ++b)
      weights[b] = _mm512_load_ps(units.weights[b] + k * kUnitRows);
    for (int t = 0; t < kTokens; ++t) {
      const __m512 input = _mm512_set1_ps(x[t * x_stride + k]);
      for (int b = 0; b < kBlocks; ++b)
        group_acc[t][b] = multiply_add(input, weights[b], group_acc[t][b]);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int b = 0; b < kBlocks; ++b) {
      float* sums = acc + (t * kBlocks + b) * kUnitRows;
      _mm512_store_ps(sums,
                      _mm512_fmadd_ps(group_acc[t][b], units.scales[b], _mm512_load_ps(sums)));
    }
  }
}

// `tokens` tokens, 1 to kTokenBlock.
template <int kBlocks, int kTokens = kTokenBlock>
void unit_some_tokens(const UnitColumn<kBlocks>& units, const float* x, int64_t x_stride,
                      int64_t tokens, float* acc) {
  if (tokens == kTokens) {
    unit_tokens<kBlocks, kTokens>(units, x, x_stride, acc);
  } else if constexpr (kTokens > 1) {
    unit_some_tokens<kBlocks, kTokens - 1>(units, x, x_stride, tokens, acc);
  }
}

// kBlocks blocks of 16 rows for up to kTokenTile tokens. x: the first token; out: its first row of
// the first block.
template <typename Unit, int kBlocks>
void blocks_token_tile(const typename Unit::Packed& w, const float* x, int64_t x_stride,
                       int64_t block, int64_t tokens, float* out, int64_t out_stride) {
  const int64_t groups = group_count(w.n_cols);
  const __m512 multiplier = _mm512_set1_ps(w.scale_multiplier);
  UnitColumn<kBlocks> units;
  alignas(64) float acc[kTokenTile * kBlocks * kUnitRows];
  for (int64_t i = 0; i < tokens * kBlocks; ++i)
    _mm512_store_ps(acc + i * kUnitRows, _mm512_setzero_ps());
  for (int64_t group = 0; group < groups; ++group) {
    units.columns = min_int(kGroupSize, w.n_cols - group * kGroupSize);
    for (int b = 0; b < kBlocks; ++b) {
      const int64_t unit_index = (block + b) * groups + group;
      unpack_unit<Unit>(w.codes + unit_index * Unit::kBytes, units.weights[b]);
      units.scales[b] = load_unit_scales(w.scales + unit_index * kUnitRows, multiplier);
    }
    for (int64_t t = 0; t < tokens; t += kTokenBlock)
      unit_some_tokens<kBlocks>(units, x + t * x_stride + group * kGroupSize, x_stride,
                                min_int(kTokenBlock, tokens - t), acc + t * kBlocks * kUnitRows);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int b = 0; b < kBlocks; ++b)
      store_floats(out + t * out_stride + b * kUnitRows, w.n_rows - (block + b) * kUnitRows,
                   _mm512_load_ps(acc + (t * kBlocks + b) * kUnitRows));
  }
}

// Two blocks at a time, or the last one alone.
template <typename Unit, int kBlocks>
void linear_blocks(const typename Unit::Packed& w, const float* x, int64_t x_stride,
                   int64_t n_tokens, int64_t block, float* out, int64_t out_stride) {
  if (n_tokens == 1) return blocks_one_token<Unit, kBlocks>(w, x, block, out);
  for (int64_t token = 0; token < n_tokens; token += kTokenTile)
    blocks_token_tile<Unit, kBlocks>(w, x + token * x_stride, x_stride, block,
                                     min_int(kTokenTile, n_tokens - token),
                                     out + token * out_stride, out_stride);
}

template <typename Unit>
void linear_f32(const typename Unit::Packed& w, const float* x, int64_t x_stride, int64_t n_tokens,
                int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  for (int64_t block = block_begin; block < block_end; block += 2) {
    float* block_out = out + block * kUnitRows;
    if (block + 1 < block_end) {
      linear_blocks<Unit, 2>(w, x, x_stride, n_tokens, block, block_out, out_stride);
    } else {
      linear_blocks<Unit, 1>(w, x, x_stride, n_tokens, block, block_out, out_stride);
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

}  // namespace flexq::avx512
