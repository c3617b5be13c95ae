#include "runtime/session_block.h"

#include <cstring>

#include "base/half.h"

namespace flexq {
namespace {

constexpr uint16_t kHalfExponent = 0x7c00;                 // all ones: NaN or infinity
constexpr uint32_t kFloatExponent = 0x7f800000;            //
constexpr int8_t kNoCode = -128;                           // quantize_kv_row is symmetric
constexpr uint16_t kSmallestScale = float_to_half(1e-5f);  // what it gives a row of zeros

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

bool is_nonfinite_half(uint16_t bits) {
  return (bits & kHalfExponent) == kHalfExponent;
}
bool is_nonfinite_float(uint32_t bits) {
  return (bits & kFloatExponent) == kFloatExponent;
}
bool is_no_code(int8_t code) {
  return code == kNoCode;
}
// Positive halves are in the order of their bits, infinity and NaN last.
bool is_no_scale(uint16_t bits) {
  return bits < kSmallestScale || bits >= kHalfExponent;
}

// The first of n values that is bad; -1 where there is none.
template <auto kIsBad, typename T>
int64_t find_bad(const T* values, int64_t n) {
  bool any = false;  // a loop without an exit, for the vectorizer
  for (int64_t i = 0; i < n; ++i)
    any |= kIsBad(values[i]);
  if (!any) return -1;
  int64_t first = 0;
  while (!kIsBad(values[first]))
    ++first;
  return first;
}

Status bad_value(int64_t token) {
  return Status::error(StatusCode::kNonFinite,
                       "keys and values of token %lld: expected finite numbers, found NaN or "
                       "infinity",
                       static_cast<long long>(token));
}

Status check_int8_token(const ExecutorShape& shape, const uint8_t* record, int64_t token) {
  const int64_t n_rows = rows_per_token(shape);
  const int64_t n_codes = n_rows * shape.head_dim;
  const auto* codes = reinterpret_cast<const int8_t*>(record);
  if (find_bad<is_no_code>(codes, n_codes) >= 0) {
    return Status::error(StatusCode::kCorrupt,
                         "keys and values of token %lld: expected codes from -127 to 127, found "
                         "-128",
                         static_cast<long long>(token));
  }
  const auto* scales = reinterpret_cast<const uint16_t*>(record + n_codes);
  const int64_t bad = find_bad<is_no_scale>(scales, n_rows);
  if (bad < 0) return Status();
  const bool is_finite = !is_nonfinite_half(scales[bad]);
  return Status::error(is_finite ? StatusCode::kCorrupt : StatusCode::kNonFinite,
                       "scale of keys or values of token %lld: expected 1e-5 to 65504, found %g",
                       static_cast<long long>(token),
                       static_cast<double>(half_to_float(scales[bad])));
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
  const int64_t n = n_tokens * n_elements;
  const int64_t bad =
      shape.kv_type == KvType::kF16
          ? find_bad<is_nonfinite_half>(reinterpret_cast<const uint16_t*>(block.data()), n)
          : find_bad<is_nonfinite_float>(reinterpret_cast<const uint32_t*>(block.data()), n);
  if (bad >= 0) return bad_value(first_token + bad / n_elements);
  return Status();
}

}  // namespace flexq
