// When attention_decode.cu serves, and how: pure functions, no CUDA header, tested without a GPU.
#pragma once

#include <cstdint>

#include "kernels/cuda/shared_limit.h"

namespace flexq {

// Whether one launch rotates, stores and attends, for one token of each sequence: the query heads
// of a KV head are rows of one tile of 16, and the sums of pieces have scratch for 64 tokens.
constexpr bool fuses_attention(int32_t sm, int64_t n_tokens, int32_t n_heads, int32_t n_kv_heads,
                               int32_t head_dim) {
  return sm >= 90 && sm < 120 && n_tokens <= 64 && n_heads % n_kv_heads == 0 &&
         n_heads / n_kv_heads <= 16 && head_dim % 2 == 0 && head_dim <= 256;
}

// Query heads of a KV head, at most, where a CTA makes all pieces of its token.
inline constexpr int32_t kMostWholeGroup = 8;

// Whether it does: where one CTA for each sequence and KV head fills the multiprocessors.
constexpr bool attends_whole(int64_t n_sequence_heads, int32_t n_group, int32_t n_sms) {
  return n_sequence_heads > 2 * int64_t{n_sms} && n_group <= kMostWholeGroup;
}

struct AttentionPlacement {
  int32_t n_cluster;     // CTAs of a cluster: all pieces of a sequence and KV head, or 1
  int64_t shared_bytes;  // of a CTA
};
// Where every CTA has a multiprocessor of its own, the pieces of a sequence are added in the shared
// memory of a cluster: through global memory every step waits behind the next kernel's weights.
// Clusters of up to 4 fit all at once. CTAs stay alone on their multiprocessors, and the next
// kernel's start when they end: its weights would delay the keys and values.
constexpr AttentionPlacement place_attention(int64_t n_ctas, int32_t n_pieces, int32_t n_sms,
                                             int64_t shared_bytes) {
  if (n_ctas > n_sms) return {1, shared_bytes};
  return {n_pieces <= 4 ? n_pieces : 1,
          shared_bytes > kSharedBytesAlone ? shared_bytes : kSharedBytesAlone};
}

}  // namespace flexq
