// Linear layers over 6- and 8-bit weights in groups of 128, in plain C++.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernels/cpu/portable_table.h"
#include "kernels/layout/w8_layout.h"

namespace flexq::portable {
namespace {

using w6::kGroupSize;
using w6::kUnitRows;

// Tokens that share one unpacked unit; bounds the scratch on the stack to about 15 KB.
constexpr int64_t kTokenTile = 32;

uint32_t load_word(const uint8_t* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// Four codes u = q + kOffset of a word to four of q, 16-bit for the multiply-add of SSE2.
template <int32_t kOffset>
void store_codes(uint32_t u, int16_t* q) {
  constexpr uint32_t kMask = 2 * kOffset - 1;
  for (int64_t i = 0; i < 4; ++i)
    q[i] = static_cast<int16_t>(static_cast<int32_t>((u >> (8 * i)) & kMask) - kOffset);
}

// unpack(): one packed unit to q (16 rows, 128 columns).
struct W6Unit {
  using Packed = PackedW6;
  static constexpr int64_t kBytes = w6::kUnitBytes;

  static void unpack(const uint8_t* unit, int16_t* q) {
    for (int64_t quad = 0; quad < w6::kQuadsPerUnit; ++quad) {
      for (int64_t row = 0; row < kUnitRows; ++row) {
        const uint8_t* planes = unit + quad * w6::kQuadBytes + row * 4;
        const uint32_t a = load_word(planes);
        const uint32_t b = load_word(planes + w6::kPlaneBytes);
        const uint32_t c = load_word(planes + 2 * w6::kPlaneBytes);
        const uint32_t d =
            ((a >> 2) & 0x30303030u) | ((b >> 4) & 0x0c0c0c0cu) | ((c >> 6) & 0x03030303u);
        int16_t* columns = q + row * kGroupSize + quad * w6::kQuadColumns;
        store_codes<32>(a, columns);
        store_codes<32>(b, columns + 4);
        store_codes<32>(c, columns + 8);
        store_codes<32>(d, columns + 12);
      }
    }
  }
};

struct W8Unit {
  using Packed = PackedW8;
  static constexpr int64_t kBytes = w8::kUnitBytes;

  static void unpack(const uint8_t* unit, int16_t* q) {
    for (int64_t column = 0; column < kGroupSize; column += w8::kStepColumns) {
      for (int64_t row = 0; row < kUnitRows; ++row)
        store_codes<128>(load_word(unit + column * kUnitRows + row * w8::kStepColumns),
                         q + row * kGroupSize + column);
    }
  }
};

int32_t dot_int32(const int16_t* a, const int16_t* b) {
  int32_t sum = 0;
  for (int64_t k = 0; k < kGroupSize; ++k)
    sum += static_cast<int32_t>(a[k]) * static_cast<int32_t>(b[k]);
  return sum;
}

// Calls group_step(acc, unit scales as float (16), q (16, 128), group, first token, tokens) for
// every block, tile of tokens and group, in ascending order of groups, and writes the accumulators
// acc (tokens, 16) to out.
template <typename Unit, typename GroupStep>
void for_each_unit(const typename Unit::Packed& w, int64_t n_tokens, int64_t block_begin,
                   int64_t block_end, float* out, int64_t out_stride, GroupStep group_step) {
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
        Unit::unpack(w.codes + unit_index * Unit::kBytes, q);
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

template <typename Unit>
void linear_int8(const typename Unit::Packed& w, const QuantizedRows& x, int64_t n_tokens,
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
  for_each_unit<Unit>(w, n_tokens, block_begin, block_end, out, out_stride, group_step);
}

template <typename Unit>
void linear_f32(const typename Unit::Packed& w, const float* x, int64_t x_stride, int64_t n_tokens,
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
  for_each_unit<Unit>(w, n_tokens, block_begin, block_end, out, out_stride, group_step);
}

}  // namespace

void linear_w6_int8(const PackedW6& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  linear_int8<W6Unit>(w, x, n_tokens, block_begin, block_end, out, out_stride);
}

void linear_w6_f32(const PackedW6& w, const float* x, int64_t x_stride, int64_t n_tokens,
                   int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  linear_f32<W6Unit>(w, x, x_stride, n_tokens, block_begin, block_end, out, out_stride);
}

void linear_w8_int8(const PackedW8& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  linear_int8<W8Unit>(w, x, n_tokens, block_begin, block_end, out, out_stride);
}

void linear_w8_f32(const PackedW8& w, const float* x, int64_t x_stride, int64_t n_tokens,
                   int64_t block_begin, int64_t block_end, float* out, int64_t out_stride) {
  linear_f32<W8Unit>(w, x, x_stride, n_tokens, block_begin, block_end, out, out_stride);
}

}  // namespace flexq::portable
