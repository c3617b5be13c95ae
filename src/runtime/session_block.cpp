#include "runtime/session_block.h"

#include <cmath>
#include <cstring>

#include "base/half.h"

namespace flexq {
namespace {

constexpr uint16_t kHalfExponent = 0x7c00;       // all ones: NaN or infinity
constexpr uint32_t kFloatExponent = 0x7f800000;  //
constexpr int8_t kNoCode = -128;                 // quantize_kv_row is symmetric
constexpr float kSmallestScale = 1e-5f;          // what it gives a row of zeros

int64_t rows_per_token(const ExecutorShape& shape) {
  return int64_t{2} * shape.n_layers * shape.n_kv_heads;
}

// move(offset in the page, offset in the block, bytes) for every piece of every token.
template <typename Move>
void for_each_piece(const ExecutorShape& shape, int32_t n_tokens, Move move) {
  const int64_t row_bytes = shape.head_dim * kv_element_bytes(shape.kv_type);
  const int64_t scale_bytes = shape.kv_type == KvType::kI8 ? 2 : 0;
  const int64_t n_rows = rows_per_token(shape);
  const int64_t token_bytes = n_rows * (row_bytes + scale_bytes);
  for (int64_t token = 0; token < n_tokens; ++token) {
    for (int64_t row = 0; row < n_rows; ++row) {
      const int64_t head = row * kv_head_bytes(shape);
      const int64_t elements = token * token_bytes;
      move(head + token * row_bytes, elements + row * row_bytes, row_bytes);
      if (scale_bytes == 0) continue;
      move(head + kPageTokens * row_bytes + token * scale_bytes,
           elements + n_rows * row_bytes + row * scale_bytes, scale_bytes);
    }
  }
}

// The first of n values for which is_bad(); -1 where there is none.
template <typename T, typename IsBad>
int64_t find_bad(const uint8_t* bytes, int64_t n, IsBad is_bad) {
  const T* values = reinterpret_cast<const T*>(bytes);
  bool any = false;  // a loop without an exit, for the vectorizer
  for (int64_t i = 0; i < n; ++i)
    any |= is_bad(values[i]);
  if (!any) return -1;
  int64_t first = 0;
  while (!is_bad(values[first]))
    ++first;
  return first;
}

int64_t find_nonfinite_half(const uint8_t* bytes, int64_t n) {
  return find_bad<uint16_t>(bytes, n,
                            [](uint16_t bits) { return (bits & kHalfExponent) == kHalfExponent; });
}

Status not_finite(int64_t token) {
  return Status::error(StatusCode::kNonFinite,
                       "keys and values of token %lld: expected finite numbers, found NaN or "
                       "infinity",
                       static_cast<long long>(token));
}

Status check_int8_token(const ExecutorShape& shape, const uint8_t* record, int64_t token) {
  const int64_t n_rows = rows_per_token(shape);
  const int64_t n_codes = n_rows * shape.head_dim;
  if (find_bad<int8_t>(record, n_codes, [](int8_t code) { return code == kNoCode; }) >= 0) {
    return Status::error(StatusCode::kCorrupt,
                         "keys and values of token %lld: expected codes from -127 to 127, found "
                         "-128",
                         static_cast<long long>(token));
  }
  // Positive halves are in the order of their bits, infinity and NaN last.
  const uint16_t smallest = float_to_half(kSmallestScale);
  const int64_t bad = find_bad<uint16_t>(record + n_codes, n_rows, [=](uint16_t bits) {
    return bits < smallest || bits >= kHalfExponent;
  });
  if (bad < 0) return Status();
  const uint16_t bits = reinterpret_cast<const uint16_t*>(record + n_codes)[bad];
  return Status::error(
      std::isfinite(half_to_float(bits)) ? StatusCode::kCorrupt : StatusCode::kNonFinite,
      "scale of keys or values of token %lld: expected 1e-5 to 65504, found %g",
      static_cast<long long>(token), static_cast<double>(half_to_float(bits)));
}

}  // namespace

void page_to_block(const ExecutorShape& shape, int32_t n_tokens, std::span<const uint8_t> page,
                   std::span<uint8_t> block) {
  for_each_piece(shape, n_tokens, [&](int64_t in_page, int64_t in_block, int64_t bytes) {
    std::memcpy(block.data() + in_block, page.data() + in_page, static_cast<size_t>(bytes));
  });
}

void block_to_page(const ExecutorShape& shape, int32_t n_tokens, std::span<const uint8_t> block,
                   std::span<uint8_t> page) {
  for_each_piece(shape, n_tokens, [&](int64_t in_page, int64_t in_block, int64_t bytes) {
    std::memcpy(page.data() + in_page, block.data() + in_block, static_cast<size_t>(bytes));
  });
}

Status check_block_values(const ExecutorShape& shape, std::span<const uint8_t> block,
                          int32_t first_token) {
  const int64_t token_bytes = page_bytes(shape) / kPageTokens;
  const int64_t n_tokens = static_cast<int64_t>(block.size()) / token_bytes;
  const int64_t n_elements = rows_per_token(shape) * shape.head_dim;
  if (shape.kv_type == KvType::kI8) {
    for (int64_t i = 0; i < n_tokens; ++i) {
      FLEXQ_RETURN_IF_ERROR(
          check_int8_token(shape, block.data() + i * token_bytes, first_token + i));
    }
    return Status();
  }
  const int64_t bad =
      shape.kv_type == KvType::kF16
          ? find_nonfinite_half(block.data(), n_tokens * n_elements)
          : find_bad<uint32_t>(block.data(), n_tokens * n_elements, [](uint32_t bits) {
              return (bits & kFloatExponent) == kFloatExponent;
            });
  if (bad >= 0) return not_finite(first_token + bad / n_elements);
  return Status();
}

}  // namespace flexq
