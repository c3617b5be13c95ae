// The kernel table in plain C++: the definition that every other table must match bit for bit, and
// what runs on processors without AVX2. fma is written wherever the contract in cpu_kernels.h says
// fma; everything else is one rounding per operation (-ffp-contract=off).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/half.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/layout/w6_layout.h"

namespace flexq {
namespace {

constexpr int64_t kLanes = 16;
// Tokens that share one unpacked unit; bounds the scratch on the stack to about 15 KB.
constexpr int64_t kTokenTile = 32;

using w6::kGroupSize;
using w6::kUnitRows;

// The tree that ends dot16 and sum16. Clobbers lanes.
float reduce_lanes(float* lanes) {
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t lane = 0; lane < width; ++lane)
      lanes[lane] = lanes[lane] + lanes[lane + width];
  }
  return lanes[0];
}

// dot16 of cpu_kernels.h; load(pointer) turns an element of b into float.
template <typename Element, typename Load>
float dot16(const float* a, const Element* b, int64_t n, Load load) {
  float lanes[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] = std::fma(a[k + lane], load(b + k + lane), lanes[lane]);
  }
  if (k < n) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const bool inside = k + lane < n;
      lanes[lane] =
          std::fma(inside ? a[k + lane] : 0.0f, inside ? load(b + k + lane) : 0.0f, lanes[lane]);
    }
  }
  return reduce_lanes(lanes);
}

float sum16(const float* a, int64_t n) {
  float lanes[kLanes] = {};
  for (int64_t k = 0; k < n; k += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] = lanes[lane] + (k + lane < n ? a[k + lane] : 0.0f);
  }
  return reduce_lanes(lanes);
}

float load_f32(const float* x) {
  return *x;
}
float load_f16(const uint16_t* x) {
  return half_to_float(*x);
}
float load_bf16(const uint16_t* x) {
  return bf16_to_float(*x);
}

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y) {
  const float mean_square = dot16(x, x, n, load_f32) / static_cast<float>(n);
  // Infinity minus itself is NaN: without it an overflow would make r, and every y, a quiet 0.
  const float r = 1.0f / std::sqrt(mean_square + eps) + (mean_square - mean_square);
  for (int64_t i = 0; i < n; ++i)
    y[i] = (x[i] * r) * weight[i];
}

// One group of n <= 128 values; codes has room for 128 and is zero-filled past n.
void quantize_group(const float* x, int64_t n, float code_max, int8_t* codes, float* scale,
                    int32_t* sum) {
  // Bit patterns of absolute values order like the values, with infinity and NaN above all.
  uint32_t amax_bits = 0;
  for (int64_t i = 0; i < n; ++i)
    amax_bits = std::max(amax_bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  std::memset(codes, 0, kGroupSize);
  *sum = 0;
  if (amax_bits >= 0x7f800000u) {
    *scale = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  const float group_scale = std::max(std::bit_cast<float>(amax_bits) / code_max, 1e-5f);
  *scale = group_scale;
  int32_t total = 0;
  for (int64_t i = 0; i < n; ++i) {
    // |x / scale| is at most code_max and a rounding error: the shift rounds it to the nearest
    // even.
    const float rounded = (x[i] / group_scale + kRoundingShift) - kRoundingShift;
    const int32_t code = static_cast<int32_t>(std::min(std::max(rounded, -code_max - 1), code_max));
    codes[i] = static_cast<int8_t>(code);
    total += code;
  }
  *sum = total;
}

void quantize_row(const float* x, int64_t n_cols, int32_t bits, int8_t* codes, float* scales,
                  int32_t* sums) {
  const float code_max = static_cast<float>((1 << (bits - 1)) - 1);
  for (int64_t group = 0; group < w6::n_groups(n_cols); ++group) {
    const int64_t first = group * kGroupSize;
    quantize_group(x + first, std::min(kGroupSize, n_cols - first), code_max, codes + first,
                   scales + group, sums + group);
  }
}

uint32_t load_word(const uint8_t* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// Four codes u (0..63) of a word to four of q.
void store_codes(uint32_t u, int16_t* q) {
  for (int64_t i = 0; i < 4; ++i)
    q[i] = static_cast<int16_t>(static_cast<int32_t>((u >> (8 * i)) & 0x3fu) - 32);
}

// One packed unit to q (16 rows, 128 columns), 16-bit for the multiply-add of SSE2.
void unpack_unit(const uint8_t* unit, int16_t* q) {
  for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
    for (int64_t row = 0; row < kUnitRows; ++row) {
      const uint8_t* planes = unit + quad * w6::kQuadBytes + row * 4;
      const uint32_t a = load_word(planes);
      const uint32_t b = load_word(planes + w6::kPlaneBytes);
      const uint32_t c = load_word(planes + 2 * w6::kPlaneBytes);
      const uint32_t d =
          ((a >> 2) & 0x30303030u) | ((b >> 4) & 0x0c0c0c0cu) | ((c >> 6) & 0x03030303u);
      int16_t* columns = q + row * kGroupSize + quad * w6::kQuadColumns;
      store_codes(a, columns);
      store_codes(b, columns + 4);
      store_codes(c, columns + 8);
      store_codes(d, columns + 12);
    }
  }
}

int32_t dot_int32(const int16_t* a, const int16_t* b) {
  int32_t sum = 0;
  for (int64_t k = 0; k < kGroupSize; ++k)
    sum += static_cast<int32_t>(a[k]) * static_cast<int32_t>(b[k]);
  return sum;
}

// Calls group_step(acc, unit scales as float (16), q (16, 128), block, group, first token, tokens)
// for every block, tile of tokens and group, in ascending order of groups, and writes the
// accumulators acc (tokens, 16) to out.
template <typename GroupStep>
void for_each_unit(const PackedW6& w, int64_t n_tokens, int64_t block_begin, int64_t block_end,
                   float* out, int64_t out_stride, GroupStep group_step) {
  const int64_t groups = w6::n_groups(w.n_cols);
  for (int64_t block = block_begin; block < block_end; ++block) {
    const int64_t first_row = block * kUnitRows;
    const int64_t rows = std::min(kUnitRows, w.n_rows - first_row);
    for (int64_t token = 0; token < n_tokens; token += kTokenTile) {
      const int64_t tokens = std::min(kTokenTile, n_tokens - token);
      float acc[kTokenTile * kUnitRows] = {};
      for (int64_t group = 0; group < groups; ++group) {
        const int64_t unit_index = block * groups + group;
        int16_t q[kUnitRows * kGroupSize];
        unpack_unit(w.codes + unit_index * w6::kUnitBytes, q);
        float scales[kUnitRows];
        for (int64_t row = 0; row < kUnitRows; ++row)
          scales[row] = half_to_float(w.scales[unit_index * kUnitRows + row]) * w.scale_multiplier;
        group_step(acc, scales, q, group, token, tokens);
      }
      for (int64_t t = 0; t < tokens; ++t)
        std::copy_n(acc + t * kUnitRows, rows, out + (token + t) * out_stride + first_row);
    }
  }
}

void linear_w6_int8(const PackedW6& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  const int64_t groups = w6::n_groups(w.n_cols);
  const auto group_step = [&](float* acc, const float* scales, const int16_t* q, int64_t group,
                              int64_t token, int64_t tokens) {
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t token_group = (token + t) * groups + group;
      const int8_t* codes = x.codes + token_group * kGroupSize;
      int16_t activations[kGroupSize];
      for (int64_t k = 0; k < kGroupSize; ++k)
        activations[k] = codes[k];
      const float activation_scale = x.scales[token_group];
      for (int64_t row = 0; row < kUnitRows; ++row) {
        const float dot = static_cast<float>(dot_int32(q + row * kGroupSize, activations));
        float& sum = acc[t * kUnitRows + row];
        sum = std::fma(dot, activation_scale * scales[row], sum);
      }
    }
  };
  for_each_unit(w, n_tokens, block_begin, block_end, out, out_stride, group_step);
}

void linear_w6_f32(const PackedW6& w, const float* x, int64_t x_stride, int64_t n_tokens,
                   int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  const auto group_step = [&](float* acc, const float* scales, const int16_t* q, int64_t group,
                              int64_t token, int64_t tokens) {
    const int64_t first_column = group * kGroupSize;
    const int64_t columns = std::min(kGroupSize, w.n_cols - first_column);
    for (int64_t t = 0; t < tokens; ++t) {
      const float* inputs = x + (token + t) * x_stride + first_column;
      float group_acc[kUnitRows] = {};
      for (int64_t k = 0; k < columns; ++k) {
        for (int64_t row = 0; row < kUnitRows; ++row)
          group_acc[row] =
              std::fma(inputs[k], static_cast<float>(q[row * kGroupSize + k]), group_acc[row]);
      }
      for (int64_t row = 0; row < kUnitRows; ++row) {
        float& sum = acc[t * kUnitRows + row];
        sum = std::fma(group_acc[row], scales[row], sum);
      }
    }
  };
  for_each_unit(w, n_tokens, block_begin, block_end, out, out_stride, group_step);
}

template <typename Element, typename Load>
void linear_dense_typed(const Element* w, Load load, int64_t n_cols, const float* x,
                        int64_t x_stride, int64_t n_tokens, int64_t row_begin, int64_t row_end,
                        float* out, int64_t out_stride) {
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t t = 0; t < n_tokens; ++t)
      out[t * out_stride + row] = dot16(x + t * x_stride, w + row * n_cols, n_cols, load);
  }
}

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

void silu_mul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = (gate[i] / (1.0f + expf16(-gate[i]))) * up[i];
}

void rope(float* x, const float* cos, const float* sin, int64_t n_heads, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < n_heads; ++head) {
    float* first = x + head * head_dim;
    float* second = first + half;
    for (int64_t i = 0; i < half; ++i) {
      const float a = first[i];
      const float b = second[i];
      first[i] = a * cos[i] - b * sin[i];
      second[i] = b * cos[i] + a * sin[i];
    }
  }
}

// Row `position` of the keys or values at `offset_bytes` in the pages of one call.
template <typename Element>
const Element* kv_row(const AttentionArgs& args, int64_t offset_bytes, int64_t position) {
  const uint8_t* page = args.pages[position / args.page_tokens] + offset_bytes;
  return reinterpret_cast<const Element*>(page) + position % args.page_tokens * args.head_dim;
}

template <typename Element, typename Load>
void attention_typed(const AttentionArgs& args, Load load) {
  const int64_t positions = args.n_positions;
  const int64_t head_dim = args.head_dim;
  float* scores = args.scores;
  for (int64_t head = 0; head < args.n_q; ++head) {
    const float* q = args.q + head * head_dim;
    float* out = args.out + head * head_dim;
    float max_score = -std::numeric_limits<float>::infinity();
    for (int64_t p = 0; p < positions; ++p) {
      const Element* key = kv_row<Element>(args, args.k_offset_bytes, p);
      scores[p] = dot16(q, key, head_dim, load) * args.scale;
      max_score = std::max(max_score, scores[p]);  // a NaN stays in the scores, not here
    }
    for (int64_t p = 0; p < positions; ++p)
      scores[p] = expf16(scores[p] - max_score);
    const float inverse_sum = 1.0f / sum16(scores, positions);
    std::fill_n(out, head_dim, 0.0f);
    for (int64_t p = 0; p < positions; ++p) {
      const Element* value = kv_row<Element>(args, args.v_offset_bytes, p);
      for (int64_t d = 0; d < head_dim; ++d)
        out[d] = std::fma(scores[p], load(value + d), out[d]);
    }
    for (int64_t d = 0; d < head_dim; ++d)
      out[d] = out[d] * inverse_sum;
  }
}

void attention(const AttentionArgs& args) {
  if (args.kv_type == DenseType::kF32) {
    attention_typed<float>(args, load_f32);
  } else {
    attention_typed<uint16_t>(args, load_f16);
  }
}

void convert_to_half(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = float_to_half(x[i]);
}

void convert_half(const uint16_t* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = half_to_float(x[i]);
}

void convert_bf16(const uint16_t* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = bf16_to_float(x[i]);
}

void add(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    x[i] = x[i] + y[i];
}

constexpr CpuKernels kPortableKernels = {
    .name = "portable",
    .rms_norm = rms_norm,
    .quantize_row = quantize_row,
    .linear_w6_int8 = linear_w6_int8,
    .linear_w6_f32 = linear_w6_f32,
    .linear_dense = linear_dense,
    .silu_mul = silu_mul,
    .rope = rope,
    .attention = attention,
    .float_to_half = convert_to_half,
    .half_to_float = convert_half,
    .bf16_to_float = convert_bf16,
    .add = add,
};

}  // namespace

const CpuKernels& portable_kernels() {
  return kPortableKernels;
}

}  // namespace flexq
