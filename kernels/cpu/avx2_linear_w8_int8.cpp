// linear_w8_int8 with AVX2. vpmaddubsw cannot serve: two products of an unsigned weight u (0..255)
// and a signed activation reach 2 * 255 * 127 = 64770 and it saturates at 32767, and with |q| and
// the sign moved over, -128 * -128 has no sign to move. So bytes are widened to 16 bits, where
// vpmaddwd is exact: |u0 x0 + u1 x1| <= 2 * 255 * 128 = 65280, and a group adds at most 128 * 255 *
// 128 = 4177920, far inside int32. The offset is taken back as dot = sum(u * x) - 128 * sum(x).
//
// A step's 32-bit lane holds columns c0 c1 c2 c3 of a row: the pairs (c0, c2) and (c1, c3) are one
// AND and one shift away. Activations are split the same way once per group and token.
//
// More than one token splits a unit once per kTokenTile tokens into 4 KB of L1 and runs blocks of 4
// tokens x 16 rows.
#include <immintrin.h>

#include "kernels/cpu/avx2_lanes.h"
#include "kernels/cpu/avx2_table.h"
#include "kernels/cpu/avx2_units.h"

namespace flexq::avx2 {
namespace {

using w8::kGroupSize;
using w8::kStepBytes;
using w8::kUnitRows;

constexpr int64_t kTokenTile = 64;
constexpr int64_t kTokenBlock = 4;
constexpr int64_t kStepsPerUnit = kGroupSize / w8::kStepColumns;
constexpr int64_t kPrefetchBytes = 2048;  // as in avx2_linear_int8.cpp

// Pairs of 16-bit values: even = columns 0 and 2 of each 32-bit lane, odd = columns 1 and 3.
struct Pairs {
  __m256i even, odd;
};

inline Pairs split_weights(__m256i u) {
  return {_mm256_and_si256(u, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(u, 8)};
}

// The codes of one token and group, split: word s holds the pair of step s.
struct TokenPairs {
  alignas(32) int32_t even[kStepsPerUnit];
  alignas(32) int32_t odd[kStepsPerUnit];
};

inline void split_activations(const int8_t* codes, TokenPairs* pairs) {
  for (int64_t step = 0; step < kStepsPerUnit; step += kFloats) {
    const __m256i x =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + step * w8::kStepColumns));
    _mm256_store_si256(reinterpret_cast<__m256i*>(pairs->even + step),
                       _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    _mm256_store_si256(reinterpret_cast<__m256i*>(pairs->odd + step), _mm256_srai_epi16(x, 8));
  }
}

inline __m256i add_dot(Pairs u, __m256i even, __m256i odd, __m256i dot) {
  dot = _mm256_add_epi32(dot, _mm256_madd_epi16(u.even, even));
  return _mm256_add_epi32(dot, _mm256_madd_epi16(u.odd, odd));
}

// acc = fma((float)dot, sx * sw, acc)
inline __m256 add_scaled(__m256i dot, __m256 activation_scale, __m256 weight_scales, __m256 acc) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(activation_scale, weight_scales),
                         acc);
}

// One block of 16 rows for one token. out: this block's first row.
void block_one_token(const PackedW8& w, const QuantizedRows& x, int64_t block, float* out) {
  const int64_t groups = group_count(w.n_cols);
  const uint8_t* unit = w.codes + block * groups * w8::kUnitBytes;
  const uint16_t* scales = w.scales + block * groups * kUnitRows;
  const __m256 multiplier = _mm256_set1_ps(w.scale_multiplier);
  __m256 acc_low = _mm256_setzero_ps();
  __m256 acc_high = _mm256_setzero_ps();
  for (int64_t group = 0; group < groups; ++group) {
    TokenPairs pairs;
    split_activations(x.codes + group * kGroupSize, &pairs);
    __m256i dot_low = _mm256_set1_epi32(-128 * x.sums[group]);
    __m256i dot_high = dot_low;
    for (int64_t step = 0; step < kStepsPerUnit; ++step) {
      const uint8_t* codes = unit + step * kStepBytes;
      _mm_prefetch(codes + kPrefetchBytes, _MM_HINT_T0);
      const __m256i* u = reinterpret_cast<const __m256i*>(codes);
      const __m256i even = _mm256_set1_epi32(pairs.even[step]);
      const __m256i odd = _mm256_set1_epi32(pairs.odd[step]);
      dot_low = add_dot(split_weights(_mm256_loadu_si256(u)), even, odd, dot_low);
      dot_high = add_dot(split_weights(_mm256_loadu_si256(u + 1)), even, odd, dot_high);
    }
    const __m256 activation_scale = _mm256_set1_ps(x.scales[group]);
    acc_low =
        add_scaled(dot_low, activation_scale, load_unit_scales(scales, 0, multiplier), acc_low);
    acc_high =
        add_scaled(dot_high, activation_scale, load_unit_scales(scales, 1, multiplier), acc_high);
    unit += w8::kUnitBytes;
    scales += kUnitRows;
  }
  const int64_t rows = w.n_rows - block * kUnitRows;
  store_floats(out, rows, acc_low);
  if (rows > kFloats) store_floats(out + kFloats, rows - kFloats, acc_high);
}

// A unit split: per step the even pairs of 16 rows, then the odd ones.
struct SplitUnit {
  alignas(32) uint8_t pairs[kStepsPerUnit * 2 * kStepBytes];
};

void split_unit(const uint8_t* unit, SplitUnit* split) {
  for (int64_t step = 0; step < kStepsPerUnit; ++step) {
    _mm_prefetch(unit + step * kStepBytes + kPrefetchBytes, _MM_HINT_T0);
    const __m256i* u = reinterpret_cast<const __m256i*>(unit + step * kStepBytes);
    __m256i* target = reinterpret_cast<__m256i*>(split->pairs + step * 2 * kStepBytes);
    const Pairs low = split_weights(_mm256_loadu_si256(u));
    const Pairs high = split_weights(_mm256_loadu_si256(u + 1));
    _mm256_store_si256(target, low.even);
    _mm256_store_si256(target + 1, high.even);
    _mm256_store_si256(target + 2, low.odd);
    _mm256_store_si256(target + 3, high.odd);
  }
}

// One split unit for kTokens tokens. x_first: index of (first token, this group) in scales and
// sums, tokens are `groups` apart. acc: (kTokens, 16).
template <int kTokens>
void unit_tokens(const SplitUnit& weights, const QuantizedRows& x, int64_t x_first, int64_t groups,
                 __m256 scales_low, __m256 scales_high, float* acc) {
  TokenPairs pairs[kTokens];
  __m256i dot_low[kTokens];
  __m256i dot_high[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    const int64_t token_group = x_first + t * groups;
    split_activations(x.codes + token_group * kGroupSize, &pairs[t]);
    dot_low[t] = dot_high[t] = _mm256_set1_epi32(-128 * x.sums[token_group]);
  }
  for (int64_t step = 0; step < kStepsPerUnit; ++step) {
    const __m256i* u = reinterpret_cast<const __m256i*>(weights.pairs + step * 2 * kStepBytes);
    const Pairs low = {_mm256_load_si256(u), _mm256_load_si256(u + 2)};
    const Pairs high = {_mm256_load_si256(u + 1), _mm256_load_si256(u + 3)};
    for (int t = 0; t < kTokens; ++t) {
      const __m256i even = _mm256_set1_epi32(pairs[t].even[step]);
      const __m256i odd = _mm256_set1_epi32(pairs[t].odd[step]);
      dot_low[t] = add_dot(low, even, odd, dot_low[t]);
      dot_high[t] = add_dot(high, even, odd, dot_high[t]);
      // Keeps the tokens apart: gcc would otherwise start all of them at once and spill.
      __asm__ volatile("" : "+x"(dot_low[t]), "+x"(dot_high[t]));
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    const __m256 activation_scale = _mm256_set1_ps(x.scales[x_first + t * groups]);
    float* low = acc + t * kUnitRows;
    float* high = low + kFloats;
    _mm256_store_ps(low, add_scaled(dot_low[t], activation_scale, scales_low, _mm256_load_ps(low)));
    _mm256_store_ps(high,
                    add_scaled(dot_high[t], activation_scale, scales_high, _mm256_load_ps(high)));
  }
}

// One block of 16 rows for up to kTokenTile tokens from first_token on. out: this block's first row
// of the first token.
void block_token_tile(const PackedW8& w, const QuantizedRows& x, int64_t block, int64_t first_token,
                      int64_t tokens, float* out, int64_t out_stride) {
  const int64_t groups = group_count(w.n_cols);
  const __m256 multiplier = _mm256_set1_ps(w.scale_multiplier);
  SplitUnit weights;
  alignas(32) float acc[kTokenTile * kUnitRows];
  for (int64_t i = 0; i < tokens * kUnitRows; i += kFloats)
    _mm256_store_ps(acc + i, _mm256_setzero_ps());
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t unit_index = block * groups + group;
    split_unit(w.codes + unit_index * w8::kUnitBytes, &weights);
    const uint16_t* scales = w.scales + unit_index * kUnitRows;
    const __m256 low = load_unit_scales(scales, 0, multiplier);
    const __m256 high = load_unit_scales(scales, 1, multiplier);
    for (int64_t t = 0; t < tokens; t += kTokenBlock) {
      const int64_t x_first = (first_token + t) * groups + group;
      float* block_acc = acc + t * kUnitRows;
      switch (min_int(tokens - t, kTokenBlock)) {
        case 1:
          unit_tokens<1>(weights, x, x_first, groups, low, high, block_acc);
          break;
        case 2:
          unit_tokens<2>(weights, x, x_first, groups, low, high, block_acc);
          break;
        case 3:
          unit_tokens<3>(weights, x, x_first, groups, low, high, block_acc);
          break;
        default:
          unit_tokens<kTokenBlock>(weights, x, x_first, groups, low, high, block_acc);
      }
    }
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

}  // namespace

void linear_w8_int8(const PackedW8& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  for (int64_t block = block_begin; block < block_end; ++block) {
    float* block_out = out + block * kUnitRows;
    if (n_tokens == 1) {
      block_one_token(w, x, block, block_out);
      continue;
    }
    for (int64_t token = 0; token < n_tokens; token += kTokenTile) {
      block_token_tile(w, x, block, token, min_int(kTokenTile, n_tokens - token),
                       block_out + token * out_stride, out_stride);
    }
  }
}

}  // namespace flexq::avx2
