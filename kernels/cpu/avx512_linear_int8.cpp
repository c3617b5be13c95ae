// linear_w6_int8 and linear_w8_int8 with AVX-512 VNNI: vpdpbusd adds four products of unsigned
// weights u = q + offset and signed activations to each 32-bit lane, and the offset is taken back
// as dot = sum(u * x) - offset * sum(x). vpdpbusd does not saturate, and a group adds at most 128 *
// 255 * 128 = 4177920: exact for all codes.
//
// One token (decode) unpacks in registers and is bound by memory. More tokens take four blocks of
// 16 rows at a time; a unit is unpacked once per kTokenTile tokens into 2 KB of L1 (W8 is read
// where it lies), and 6 tokens x 4 blocks fill 24 of the 32 registers with sums: 24 vpdpbusd for 4
// loads of weights and 6 broadcasts of activations. The last blocks go by two and one, with 12
// tokens.
#include <immintrin.h>

#include "kernels/cpu/avx512_lanes.h"
#include "kernels/cpu/avx512_table.h"
#include "kernels/cpu/avx512_units.h"

namespace flexq::avx512 {
namespace {

using w6::kGroupSize;
using w6::kUnitRows;

constexpr int64_t kTokenTile = 128;
constexpr int64_t kOneTokenFarBytes = 3072;
// Tokens of a register block: n_blocks x max_tokens sums in registers.
constexpr int max_tokens(int n_blocks) {
  return n_blocks == 4 ? 6 : 12;
}

constexpr int64_t kStepBytes = w8::kStepBytes;  // 4 columns of 16 rows, unpacked
constexpr int64_t kStepsPerUnit = kGroupSize / w8::kStepColumns;

// Four activation codes in every 32-bit lane.
inline __m512i broadcast_codes(const int8_t* codes) {
  int32_t word;
  __builtin_memcpy(&word, codes, sizeof(word));
  return _mm512_set1_epi32(word);
}

// dot + u * x over the bytes of each 32-bit lane. Not the intrinsic: g++ 12 copies its accumulator
// before and after each use (kernels/README.md).
inline __m512i add_dot(__m512i dot, __m512i u, __m512i x) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(dot) : "v"(u), "v"(x));
  return dot;
}

// The same with four activation codes that the instruction itself broadcasts from memory.
inline __m512i add_dot_at(__m512i dot, __m512i u, const int8_t* codes) {
  using Word __attribute__((may_alias)) = int32_t;
  __asm__("vpdpbusd %2%{1to16%}, %1, %0"
          : "+v"(dot)
          : "v"(u), "m"(*reinterpret_cast<const Word*>(codes)));
  return dot;
}

// acc = fma((float)dot, sx * sw, acc)
inline __m512 add_scaled(__m512i dot, __m512 activation_scale, __m512 weight_scales, __m512 acc) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(activation_scale, weight_scales),
                         acc);
}

// kBlocks blocks of 16 rows for one token. Two blocks side by side are two streams of weights,
// which the processor's prefetcher follows further ahead than one. out: the first block's first
// row.
template <typename Unit, int kBlocks>
void blocks_one_token(const typename Unit::Packed& w, const QuantizedRows& x, int64_t block,
                      float* out) {
  const int64_t groups = group_count(w.n_cols);
  const __m512 multiplier = _mm512_set1_ps(w.scale_multiplier);
  const uint8_t* unit = w.codes + block * groups * Unit::kBytes;
  const uint16_t* scales = w.scales + block * groups * kUnitRows;
  __m512 acc[kBlocks];
  for (int b = 0; b < kBlocks; ++b)
    acc[b] = _mm512_setzero_ps();
  for (int64_t group = 0; group < groups; ++group) {
    const int8_t* codes = x.codes + group * kGroupSize;
    __m512i even[kBlocks];
    __m512i odd[kBlocks];
    for (int b = 0; b < kBlocks; ++b) {
      even[b] = _mm512_set1_epi32(-Unit::kOffset * x.sums[group]);
      odd[b] = _mm512_setzero_si512();
    }
    for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
      for (int b = 0; b < kBlocks; ++b) {
        const uint8_t* planes = unit + b * groups * Unit::kBytes + quad * Unit::kQuadBytes;
        prefetch_quad<Unit, kOneTokenFarBytes>(planes);
        const QuadCodes u = Unit::load_quad(planes);
        const int8_t* x_quad = codes + quad * w6::kQuadColumns;
        for (int step = 0; step < 4; step += 2) {
          even[b] = add_dot_at(even[b], u.step[step], x_quad + step * w8::kStepColumns);
          odd[b] = add_dot_at(odd[b], u.step[step + 1], x_quad + (step + 1) * w8::kStepColumns);
        }
      }
    }
    const __m512 activation_scale = _mm512_set1_ps(x.scales[group]);
    for (int b = 0; b < kBlocks; ++b) {
      const __m512 weight_scales = load_unit_scales(scales + b * groups * kUnitRows, multiplier);
      acc[b] =
          add_scaled(_mm512_add_epi32(even[b], odd[b]), activation_scale, weight_scales, acc[b]);
    }
    unit += Unit::kBytes;
    scales += kUnitRows;
  }
  for (int b = 0; b < kBlocks; ++b)
    store_floats(out + b * kUnitRows, w.n_rows - (block + b) * kUnitRows, acc[b]);
}

// A unit to steps of 64 bytes, weights: (32 steps, 16 rows, 4 columns), 64-byte aligned.
template <typename Unit>
void unpack_unit(const uint8_t* unit, uint8_t* weights) {
  for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
    prefetch_quad<Unit>(unit + quad * Unit::kQuadBytes);
    const QuadCodes u = Unit::load_quad(unit + quad * Unit::kQuadBytes);
    for (int64_t step = 0; step < 4; ++step)
      _mm512_store_si512(weights + (quad * 4 + step) * kStepBytes, u.step[step]);
  }
}

// The units of kBlocks blocks for one group.
template <int kBlocks>
struct UnitColumn {
  const uint8_t* weights[kBlocks];  // (32 steps, 16 rows, 4 columns)
  __m512 scales[kBlocks];
};

// What one group needs of the tokens of a tile.
struct TokenColumn {
  const int8_t* codes;  // of the first token; tokens are token_bytes apart
  int64_t token_bytes;
  alignas(64) float scales[kTokenTile];
  alignas(64) int32_t start[kTokenTile];  // -offset * sum
};

// x_first: index of (first token, this group) in scales and sums, tokens are `groups` apart.
inline void load_tokens(const QuantizedRows& x, int64_t x_first, int64_t groups, int64_t tokens,
                        int32_t offset, TokenColumn* column) {
  column->codes = x.codes + x_first * kGroupSize;
  for (int64_t t = 0; t < tokens; ++t) {
    column->scales[t] = x.scales[x_first + t * groups];
    column->start[t] = -offset * x.sums[x_first + t * groups];
  }
}

// kTokens tokens from token t on. acc: (kTokens, kBlocks, 16).
template <int kBlocks, int kTokens>
void unit_tokens(const UnitColumn<kBlocks>& units, const TokenColumn& x, int64_t token,
                 float* acc) {
  // Of every third token: the two after it are one and two times the stride away, which an address
  // can express.
  const int8_t* codes[(kTokens + 2) / 3];
  __m512i dot[kTokens][kBlocks];
  for (int t = 0; t < kTokens; ++t) {
    if (t % 3 == 0) codes[t / 3] = x.codes + (token + t) * x.token_bytes;
    for (int b = 0; b < kBlocks; ++b)
      dot[t][b] = _mm512_set1_epi32(x.start[token + t]);
  }
  for (int64_t step = 0; step < kStepsPerUnit; ++step) {
    __m512i u[kBlocks];
    for (int b = 0; b < kBlocks; ++b)
      u[b] = load_line(units.weights[b] + step * kStepBytes);
    for (int t = 0; t < kTokens; ++t) {
      const __m512i inputs =
          broadcast_codes(codes[t / 3] + t % 3 * x.token_bytes + step * w8::kStepColumns);
      for (int b = 0; b < kBlocks; ++b)
        dot[t][b] = add_dot(dot[t][b], u[b], inputs);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    const __m512 activation_scale = _mm512_set1_ps(x.scales[token + t]);
    for (int b = 0; b < kBlocks; ++b) {
      float* sums = acc + (t * kBlocks + b) * kUnitRows;
      _mm512_store_ps(
          sums, add_scaled(dot[t][b], activation_scale, units.scales[b], _mm512_load_ps(sums)));
    }
  }
}

// `tokens` tokens, 1 to max_tokens(kBlocks).
template <int kBlocks, int kTokens = max_tokens(kBlocks)>
void unit_some_tokens(const UnitColumn<kBlocks>& units, const TokenColumn& x, int64_t token,
                      int64_t tokens, float* acc) {
  if (tokens == kTokens) {
    unit_tokens<kBlocks, kTokens>(units, x, token, acc);
  } else if constexpr (kTokens > 1) {
    unit_some_tokens<kBlocks, kTokens - 1>(units, x, token, tokens, acc);
  }
}

// kBlocks blocks of 16 rows for up to kTokenTile tokens from first_token on. out: the first block's
// first row of the first token.
template <typename Unit, int kBlocks>
void blocks_token_tile(const typename Unit::Packed& w, const QuantizedRows& x, int64_t block,
                       int64_t first_token, int64_t tokens, float* out, int64_t out_stride) {
  const int64_t groups = group_count(w.n_cols);
  const __m512 multiplier = _mm512_set1_ps(w.scale_multiplier);
  alignas(64) uint8_t unpacked[kBlocks][Unit::kPacked ? kStepsPerUnit * kStepBytes : kStepBytes];
  alignas(64) float acc[kTokenTile * kBlocks * kUnitRows];
  for (int64_t i = 0; i < tokens * kBlocks; ++i)
    _mm512_store_ps(acc + i * kUnitRows, _mm512_setzero_ps());
  UnitColumn<kBlocks> units;
  TokenColumn column;
  column.token_bytes = groups * kGroupSize;
  for (int64_t group = 0; group < groups; ++group) {
    for (int b = 0; b < kBlocks; ++b) {
      const int64_t unit_index = (block + b) * groups + group;
      const uint8_t* unit = w.codes + unit_index * Unit::kBytes;
      if constexpr (Unit::kPacked) {
        unpack_unit<Unit>(unit, unpacked[b]);
        units.weights[b] = unpacked[b];
      } else {
        for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad)
          prefetch_quad<Unit>(unit + quad * Unit::kQuadBytes);
        units.weights[b] = unit;
      }
      units.scales[b] = load_unit_scales(w.scales + unit_index * kUnitRows, multiplier);
    }
    load_tokens(x, first_token * groups + group, groups, tokens, Unit::kOffset, &column);
    constexpr int kStep = max_tokens(kBlocks);
    for (int64_t t = 0; t < tokens; t += kStep)
      unit_some_tokens<kBlocks>(units, column, t, min_int(kStep, tokens - t),
                                acc + t * kBlocks * kUnitRows);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int b = 0; b < kBlocks; ++b)
      store_floats(out + t * out_stride + b * kUnitRows, w.n_rows - (block + b) * kUnitRows,
                   _mm512_load_ps(acc + (t * kBlocks + b) * kUnitRows));
  }
}

template <typename Unit>
void linear_int8(const typename Unit::Packed& w, const QuantizedRows& x, int64_t n_tokens,
                 int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  if (n_tokens == 1) {
    int64_t block = block_begin;
    for (; block + 2 <= block_end; block += 2)
      blocks_one_token<Unit, 2>(w, x, block, out + block * kUnitRows);
    if (block < block_end) blocks_one_token<Unit, 1>(w, x, block, out + block * kUnitRows);
    return;
  }
  for (int64_t block = block_begin, step = 0; block < block_end; block += step) {
    const int64_t left = block_end - block;
    step = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    for (int64_t token = 0; token < n_tokens; token += kTokenTile) {
      const int64_t tokens = min_int(kTokenTile, n_tokens - token);
      float* tile_out = out + token * out_stride + block * kUnitRows;
      if (step == 4) {
        blocks_token_tile<Unit, 4>(w, x, block, token, tokens, tile_out, out_stride);
      } else if (step == 2) {
        blocks_token_tile<Unit, 2>(w, x, block, token, tokens, tile_out, out_stride);
      } else {
        blocks_token_tile<Unit, 1>(w, x, block, token, tokens, tile_out, out_stride);
      }
    }
  }
}

}  // namespace

void linear_w6_int8(const PackedW6& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  linear_int8<W6Unit>(w, x, n_tokens, block_begin, block_end, out, out_stride);
}

void linear_w8_int8(const PackedW8& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  linear_int8<W8Unit>(w, x, n_tokens, block_begin, block_end, out, out_stride);
}

}  // namespace flexq::avx512
