// When attention_decode.cu serves: a pure function, no CUDA header, tested without a GPU.
#pragma once

#include <cstdint>

namespace flexq {

// Whether one launch rotates, stores and attends, for one token of each sequence: the query heads
// of a KV head are rows of one tile of 16, and the sums of pieces have scratch for 64 tokens.
constexpr bool fuses_attention(int32_t sm, int64_t n_tokens, int32_t n_heads, int32_t n_kv_heads,
                               int32_t head_dim) {
  return sm >= 90 && sm < 120 && n_tokens <= 64 && n_heads % n_kv_heads == 0 &&
         n_heads / n_kv_heads <= 16 && head_dim % 2 == 0 && head_dim <= 256;
}

}  // namespace flexq
