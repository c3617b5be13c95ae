// linear_w6_int8 with AVX2: unsigned weights u = q + 32 times signed activations by vpmaddubsw,
// 16-bit pair sums widened by vpmaddwd, and the offset taken back as dot = sum(u * x) - 32 *
// sum(x).
//
// Bound: one vpmaddubsw lane is u0*x0 + u1*x1, between -2*63*128 = -16128 and 2*63*127 = 16002: two
// of them add up within int16 (-32256 .. 32004), a third could leave it. So every two products are
// widened to 32 bits. This holds for all 8-bit activation codes.
//
// One token (decode) unpacks in registers and is bound by memory. More tokens unpack a unit once
// per kTokenTile tokens into 2 KB of L1 and run blocks of 4 tokens x 16 rows: 8 accumulators, 4
// weight registers, 2 broadcasts, the ones of vpmaddwd and a product.
#include <immintrin.h>

#include "kernels/cpu/avx2_lanes.h"
#include "kernels/cpu/avx2_table.h"
#include "kernels/cpu/avx2_w6_unit.h"

namespace flexq::avx2 {
namespace {

using w6::kGroupSize;
using w6::kUnitRows;

constexpr int64_t kTokenTile = 64;
constexpr int64_t kTokenBlock = 4;
constexpr int64_t kStepBytes = 64;  // 4 columns of 16 rows, unpacked
constexpr int64_t kStepsPerUnit = kGroupSize / 4;
// How far ahead weights are asked for; hardware prefetchers stop at every 4 KB page. Decode asks
// twice: early into L2, whose queue of outstanding lines is the longer one, then into L1. With
// tokens to compute on, one request is enough. Distances measured: kernels/README.md.
constexpr int64_t kDecodeL1Bytes = 1024;
constexpr int64_t kDecodeL2Bytes = 6144;
constexpr int64_t kTileL1Bytes = 2048;

inline void prefetch_quad_to_l1(const uint8_t* quad) {
  for (int64_t plane = 0; plane < w6::kPlanesPerQuad; ++plane)
    _mm_prefetch(quad + plane * w6::kPlaneBytes, _MM_HINT_T0);
}

inline void prefetch_quad_to_l2(const uint8_t* quad) {
  for (int64_t plane = 0; plane < w6::kPlanesPerQuad; ++plane)
    _mm_prefetch(quad + plane * w6::kPlaneBytes, _MM_HINT_T1);
}

// Four activation codes in every 32-bit lane.
inline __m256i broadcast_codes(const int8_t* codes) {
  int32_t word;
  __builtin_memcpy(&word, codes, sizeof(word));
  return _mm256_set1_epi32(word);
}

// u0 * x0 + u1 * x1 over the bytes of each 32-bit lane.
inline __m256i dot_two_steps(__m256i u0, __m256i x0, __m256i u1, __m256i x1) {
  const __m256i pairs =
      _mm256_add_epi16(_mm256_maddubs_epi16(u0, x0), _mm256_maddubs_epi16(u1, x1));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

inline __m256i dot_quad(const QuadCodes& u, const __m256i* x) {
  return _mm256_add_epi32(dot_two_steps(u.step[0], x[0], u.step[1], x[1]),
                          dot_two_steps(u.step[2], x[2], u.step[3], x[3]));
}

// acc = fma((float)dot, sx * sw, acc)
inline __m256 add_scaled(__m256i dot, __m256 activation_scale, __m256 weight_scales, __m256 acc) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(activation_scale, weight_scales),
                         acc);
}

// One block of 16 rows for one token. out: this block's first row.
void block_one_token(const PackedW6& w, const QuantizedRows& x, int64_t block, float* out) {
  const int64_t groups = group_count(w.n_cols);
  const uint8_t* unit = w.codes + block * groups * w6::kUnitBytes;
  const uint16_t* scales = w.scales + block * groups * kUnitRows;
  const __m256 multiplier = _mm256_set1_ps(w.scale_multiplier);
  __m256 acc_low = _mm256_setzero_ps();
  __m256 acc_high = _mm256_setzero_ps();
  for (int64_t group = 0; group < groups; ++group) {
    const int8_t* codes = x.codes + group * kGroupSize;
    __m256i dot_low = _mm256_set1_epi32(-32 * x.sums[group]);
    __m256i dot_high = dot_low;
    for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
      const uint8_t* planes = unit + quad * w6::kQuadBytes;
      prefetch_quad_to_l1(planes + kDecodeL1Bytes);
      prefetch_quad_to_l2(planes + kDecodeL2Bytes);
      __m256i inputs[4];
      for (int64_t step = 0; step < 4; ++step)
        inputs[step] = broadcast_codes(codes + quad * w6::kQuadColumns + step * 4);
      dot_low = _mm256_add_epi32(dot_low, dot_quad(unpack_quad(planes), inputs));
      dot_high =
          _mm256_add_epi32(dot_high, dot_quad(unpack_quad(planes + kHalfPlaneBytes), inputs));
    }
    const __m256 activation_scale = _mm256_set1_ps(x.scales[group]);
    acc_low =
        add_scaled(dot_low, activation_scale, load_unit_scales(scales, 0, multiplier), acc_low);
    acc_high =
        add_scaled(dot_high, activation_scale, load_unit_scales(scales, 1, multiplier), acc_high);
    unit += w6::kUnitBytes;
    scales += kUnitRows;
  }
  const int64_t rows = w.n_rows - block * kUnitRows;
  store_floats(out, rows, acc_low);
  if (rows > kFloats) store_floats(out + kFloats, rows - kFloats, acc_high);
}

// A unit to steps of 64 bytes, weights: (32 steps, 16 rows, 4 columns), 32-byte aligned.
void unpack_unit(const uint8_t* unit, uint8_t* weights) {
  for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
    prefetch_quad_to_l1(unit + quad * w6::kQuadBytes + kTileL1Bytes);
    for (int64_t half = 0; half < 2; ++half) {
      const QuadCodes u = unpack_quad(unit + quad * w6::kQuadBytes + half * kHalfPlaneBytes);
      uint8_t* target = weights + quad * 4 * kStepBytes + half * kHalfPlaneBytes;
      for (int64_t step = 0; step < 4; ++step)
        _mm256_store_si256(reinterpret_cast<__m256i*>(target + step * kStepBytes), u.step[step]);
    }
  }
}

// One unpacked unit for kTokens tokens. x_first: index of (first token, this group) in scales and
// sums, tokens are `groups` apart. acc: (kTokens, 16).
template <int kTokens>
void unit_tokens(const uint8_t* weights, const QuantizedRows& x, int64_t x_first, int64_t groups,
                 __m256 scales_low, __m256 scales_high, float* acc) {
  const int8_t* codes = x.codes + x_first * kGroupSize;
  const int64_t token_bytes = groups * kGroupSize;
  __m256i dot_low[kTokens];
  __m256i dot_high[kTokens];
  for (int t = 0; t < kTokens; ++t)
    dot_low[t] = dot_high[t] = _mm256_set1_epi32(-32 * x.sums[x_first + t * groups]);
  for (int64_t step = 0; step < kStepsPerUnit; step += 2) {
    const __m256i* u = reinterpret_cast<const __m256i*>(weights + step * kStepBytes);
    const __m256i u0_low = _mm256_load_si256(u);
    const __m256i u0_high = _mm256_load_si256(u + 1);
    const __m256i u1_low = _mm256_load_si256(u + 2);
    const __m256i u1_high = _mm256_load_si256(u + 3);
    for (int t = 0; t < kTokens; ++t) {
      const __m256i x0 = broadcast_codes(codes + t * token_bytes + step * 4);
      const __m256i x1 = broadcast_codes(codes + t * token_bytes + step * 4 + 4);
      dot_low[t] = _mm256_add_epi32(dot_low[t], dot_two_steps(u0_low, x0, u1_low, x1));
      dot_high[t] = _mm256_add_epi32(dot_high[t], dot_two_steps(u0_high, x0, u1_high, x1));
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
void block_token_tile(const PackedW6& w, const QuantizedRows& x, int64_t block, int64_t first_token,
                      int64_t tokens, float* out, int64_t out_stride) {
  const int64_t groups = group_count(w.n_cols);
  const __m256 multiplier = _mm256_set1_ps(w.scale_multiplier);
  alignas(32) uint8_t weights[kStepsPerUnit * kStepBytes];
  alignas(32) float acc[kTokenTile * kUnitRows];
  for (int64_t i = 0; i < tokens * kUnitRows; i += kFloats)
    _mm256_store_ps(acc + i, _mm256_setzero_ps());
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t unit_index = block * groups + group;
    unpack_unit(w.codes + unit_index * w6::kUnitBytes, weights);
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

void linear_w6_int8(const PackedW6& w, const QuantizedRows& x, int64_t n_tokens,
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
