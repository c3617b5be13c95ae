// linear_w6_int8 and linear_w8_int8 with AVX-VNNI: the method of avx512_linear_int8.cpp in 256-bit
// registers. vpdpbusd does not saturate, and a group adds at most 128 * 255 * 128 = 4177920: exact
// for all codes.
//
// One token (decode) unpacks in registers and is bound by memory. More tokens unpack a unit once
// per kTokenTile tokens into 2 KB of L1 (W8 is read where it lies) and run blocks of 6 tokens x 16
// rows: 12 accumulators, 2 registers of weights, 1 broadcast.
#include <immintrin.h>

#include "kernels/cpu/avx2_lanes.h"
#include "kernels/cpu/avx2_units.h"
#include "kernels/cpu/avxvnni_table.h"

namespace flexq::avxvnni {
namespace {

using avx2::kFloats;
using avx2::kHalfPlaneBytes;
using avx2::QuadCodes;
using avx2::W6Unit;
using avx2::W8Unit;
using w6::kGroupSize;
using w6::kUnitRows;

constexpr int64_t kTokenTile = 96;
constexpr int64_t kTokenBlock = 6;
constexpr int64_t kLineBytes = 64;
constexpr int64_t kStepBytes = w8::kStepBytes;  // 4 columns of 16 rows, unpacked
constexpr int64_t kStepsPerUnit = kGroupSize / w8::kStepColumns;

// As in avx512_units.h.
template <typename Unit>
inline void prefetch_quad(const uint8_t* quad) {
  constexpr int64_t kNearBytes = 1024;
  constexpr int64_t kFarBytes = 6144;
  for (int64_t line = 0; line < Unit::kQuadBytes; line += kLineBytes) {
    _mm_prefetch(quad + line + kNearBytes, _MM_HINT_T0);
    _mm_prefetch(quad + line + kFarBytes, _MM_HINT_T1);
  }
}

// Four activation codes in every 32-bit lane.
inline __m256i broadcast_codes(const int8_t* codes) {
  int32_t word;
  __builtin_memcpy(&word, codes, sizeof(word));
  return _mm256_set1_epi32(word);
}

// dot + u * x over the bytes of each 32-bit lane. Not the intrinsic: see avx512_linear_int8.cpp.
inline __m256i add_dot(__m256i dot, __m256i u, __m256i x) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(dot) : "x"(u), "x"(x));
  return dot;
}

// acc = fma((float)dot, sx * sw, acc)
inline __m256 add_scaled(__m256i dot, __m256 activation_scale, __m256 weight_scales, __m256 acc) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(activation_scale, weight_scales),
                         acc);
}

// One block of 16 rows for one token. out: this block's first row.
template <typename Unit>
void block_one_token(const typename Unit::Packed& w, const QuantizedRows& x, int64_t block,
                     float* out) {
  const int64_t groups = avx2::group_count(w.n_cols);
  const uint8_t* unit = w.codes + block * groups * Unit::kBytes;
  const uint16_t* scales = w.scales + block * groups * kUnitRows;
  const __m256 multiplier = _mm256_set1_ps(w.scale_multiplier);
  __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int64_t group = 0; group < groups; ++group) {
    const int8_t* codes = x.codes + group * kGroupSize;
    const __m256i start = _mm256_set1_epi32(-Unit::kOffset * x.sums[group]);
    // Two chains per half: vpdpbusd waits 4 to 5 cycles for the one before it.
    __m256i dot[2][2] = {{start, _mm256_setzero_si256()}, {start, _mm256_setzero_si256()}};
    for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
      const uint8_t* planes = unit + quad * Unit::kQuadBytes;
      prefetch_quad<Unit>(planes);
      for (int half = 0; half < 2; ++half) {
        const QuadCodes u = Unit::load_quad(planes + half * kHalfPlaneBytes);
        for (int step = 0; step < 4; ++step)
          dot[half][step % 2] =
              add_dot(dot[half][step % 2], u.step[step],
                      broadcast_codes(codes + quad * w6::kQuadColumns + step * w8::kStepColumns));
      }
    }
    const __m256 activation_scale = _mm256_set1_ps(x.scales[group]);
    for (int half = 0; half < 2; ++half)
      acc[half] = add_scaled(_mm256_add_epi32(dot[half][0], dot[half][1]), activation_scale,
                             avx2::load_unit_scales(scales, half, multiplier), acc[half]);
    unit += Unit::kBytes;
    scales += kUnitRows;
  }
  const int64_t rows = w.n_rows - block * kUnitRows;
  avx2::store_floats(out, rows, acc[0]);
  if (rows > kFloats) avx2::store_floats(out + kFloats, rows - kFloats, acc[1]);
}

// A unit to steps of 64 bytes, weights: (32 steps, 16 rows, 4 columns), 32-byte aligned.
template <typename Unit>
void unpack_unit(const uint8_t* unit, uint8_t* weights) {
  for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
    for (int64_t half = 0; half < 2; ++half) {
      const QuadCodes u = Unit::load_quad(unit + quad * Unit::kQuadBytes + half * kHalfPlaneBytes);
      uint8_t* target = weights + quad * 4 * kStepBytes + half * kHalfPlaneBytes;
      for (int64_t step = 0; step < 4; ++step)
        _mm256_store_si256(reinterpret_cast<__m256i*>(target + step * kStepBytes), u.step[step]);
    }
  }
}

// The unit of one block for one group.
struct BlockUnit {
  const uint8_t* weights;  // (32 steps, 16 rows, 4 columns)
  __m256 scales[2];        // rows 0-7, rows 8-15
};

// What one group needs of the tokens of a tile.
struct TokenColumn {
  const int8_t* codes;  // of the first token; tokens are token_bytes apart
  int64_t token_bytes;
  float scales[kTokenTile];
  int32_t start[kTokenTile];  // -offset * sum
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

// kTokens tokens from token t on. acc: (kTokens, 16).
template <int kTokens>
void unit_tokens(const BlockUnit& unit, const TokenColumn& x, int64_t token, float* acc) {
  // Of every third token: the two after it are one and two times the stride away, which an address
  // can express.
  const int8_t* codes[(kTokens + 2) / 3];
  __m256i dot[kTokens][2];
  for (int t = 0; t < kTokens; ++t) {
    if (t % 3 == 0) codes[t / 3] = x.codes + (token + t) * x.token_bytes;
    dot[t][0] = dot[t][1] = _mm256_set1_epi32(x.start[token + t]);
  }
  for (int64_t step = 0; step < kStepsPerUnit; ++step) {
    const __m256i* u = reinterpret_cast<const __m256i*>(unit.weights + step * kStepBytes);
    const __m256i u_low = _mm256_loadu_si256(u);
    const __m256i u_high = _mm256_loadu_si256(u + 1);
    for (int t = 0; t < kTokens; ++t) {
      const __m256i inputs =
          broadcast_codes(codes[t / 3] + t % 3 * x.token_bytes + step * w8::kStepColumns);
      dot[t][0] = add_dot(dot[t][0], u_low, inputs);
      dot[t][1] = add_dot(dot[t][1], u_high, inputs);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    const __m256 activation_scale = _mm256_set1_ps(x.scales[token + t]);
    for (int half = 0; half < 2; ++half) {
      float* sums = acc + t * kUnitRows + half * kFloats;
      _mm256_store_ps(sums, add_scaled(dot[t][half], activation_scale, unit.scales[half],
                                       _mm256_load_ps(sums)));
    }
  }
}

// `tokens` tokens, 1 to kTokenBlock.
template <int kTokens = kTokenBlock>
void unit_some_tokens(const BlockUnit& unit, const TokenColumn& x, int64_t token, int64_t tokens,
                      float* acc) {
  if (tokens == kTokens) {
    unit_tokens<kTokens>(unit, x, token, acc);
  } else if constexpr (kTokens > 1) {
    unit_some_tokens<kTokens - 1>(unit, x, token, tokens, acc);
  }
}

// One block of 16 rows for up to kTokenTile tokens from first_token on. out: this block's first row
// of the first token.
template <typename Unit>
void block_token_tile(const typename Unit::Packed& w, const QuantizedRows& x, int64_t block,
                      int64_t first_token, int64_t tokens, float* out, int64_t out_stride) {
  constexpr bool kUnpack = Unit::kBytes != kStepsPerUnit * kStepBytes;
  const int64_t groups = avx2::group_count(w.n_cols);
  const __m256 multiplier = _mm256_set1_ps(w.scale_multiplier);
  alignas(32) uint8_t unpacked[kUnpack ? kStepsPerUnit * kStepBytes : 1];
  alignas(32) float acc[kTokenTile * kUnitRows];
  for (int64_t i = 0; i < tokens * kUnitRows; i += kFloats)
    _mm256_store_ps(acc + i, _mm256_setzero_ps());
  TokenColumn column;
  column.token_bytes = groups * kGroupSize;
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t unit_index = block * groups + group;
    const uint8_t* codes = w.codes + unit_index * Unit::kBytes;
    for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad)
      prefetch_quad<Unit>(codes + quad * Unit::kQuadBytes);
    const uint16_t* scales = w.scales + unit_index * kUnitRows;
    BlockUnit unit = {codes,
                      {avx2::load_unit_scales(scales, 0, multiplier),
                       avx2::load_unit_scales(scales, 1, multiplier)}};
    if constexpr (kUnpack) {
      unpack_unit<Unit>(codes, unpacked);
      unit.weights = unpacked;
    }
    load_tokens(x, first_token * groups + group, groups, tokens, Unit::kOffset, &column);
    for (int64_t t = 0; t < tokens; t += kTokenBlock)
      unit_some_tokens<>(unit, column, t, avx2::min_int(kTokenBlock, tokens - t),
                         acc + t * kUnitRows);
  }
  const int64_t rows = w.n_rows - block * kUnitRows;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* token_acc = acc + t * kUnitRows;
    float* token_out = out + t * out_stride;
    avx2::store_floats(token_out, rows, _mm256_load_ps(token_acc));
    if (rows > kFloats)
      avx2::store_floats(token_out + kFloats, rows - kFloats, _mm256_load_ps(token_acc + kFloats));
  }
}

template <typename Unit>
void linear_int8(const typename Unit::Packed& w, const QuantizedRows& x, int64_t n_tokens,
                 int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  for (int64_t block = block_begin; block < block_end; ++block) {
    float* block_out = out + block * kUnitRows;
    if (n_tokens == 1) {
      block_one_token<Unit>(w, x, block, block_out);
      continue;
    }
    for (int64_t token = 0; token < n_tokens; token += kTokenTile) {
      block_token_tile<Unit>(w, x, block, token, avx2::min_int(kTokenTile, n_tokens - token),
                             block_out + token * out_stride, out_stride);
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

}  // namespace flexq::avxvnni
