// How the binary tensor-core kernel cuts its work and its shared memory: pure functions of the
// device's generation, the tokens and the groups.
#pragma once

#include <cstdint>

#include "kernels/layout/cuda_btc_layout.h"

namespace flexq::btc {

inline constexpr int32_t kWarps = 8;
inline constexpr int32_t kPieceUnits = 2;  // units of one bulk copy: 3 KiB of planes
inline constexpr int32_t kMaxTokens = 8;
inline constexpr int32_t kMostCtasPerSm = 2;
inline constexpr int32_t kTermBytes = 8;  // (float)dot and its scale

struct Tiling {
  int32_t ctas_per_sm = 1;
  int32_t tokens = 1;        // of a thread block: 1, 2, 4 or 8
  int32_t n_stages = 1;      // pieces in flight of a warp
  int32_t chunk_groups = 1;  // groups between two barriers, 1 .. most_chunk_groups()
  int32_t plane_groups = 1;  // groups of activation planes held: all, or those of one chunk
};

// Byte offsets of the parts of a thread block's shared memory.
struct SharedMap {
  int32_t weights = 0;   // (kWarps, n_stages, kPieceUnits) units, each stage on 128 bytes
  int32_t scales = 0;    // (kWarps, n_stages, kPieceUnits, 16) fp16
  int32_t barriers = 0;  // (kWarps, n_stages), 8 bytes each
  int32_t planes = 0;    // (tokens, plane_groups, 32) words
  int32_t terms = 0;     // (2, chunk_groups, tokens, 16) terms
  int32_t x_scales = 0;  // (tokens, plane_groups) fp32
  int32_t bytes = 0;
};

constexpr SharedMap shared_map(const Tiling& tiling) {
  const int32_t pieces = kWarps * tiling.n_stages;
  SharedMap map;
  map.scales = pieces * kPieceUnits * static_cast<int32_t>(cuda_btc::kUnitBytes);
  map.barriers =
      map.scales + pieces * kPieceUnits * static_cast<int32_t>(cuda_btc::kUnitScaleBytes);
  map.planes = map.barriers + pieces * 8;
  map.terms = map.planes + tiling.tokens * tiling.plane_groups * cuda_btc::kWordsPerGroup * 4;
  map.x_scales = map.terms + 2 * tiling.chunk_groups * tiling.tokens *
                                 static_cast<int32_t>(cuda_btc::kUnitRows) * kTermBytes;
  map.bytes = map.x_scales + tiling.tokens * tiling.plane_groups * 4;
  return map;
}

// Shared memory of a multiprocessor that thread blocks may have, compute capability 9.0 being 90.
// Each block takes 1 KiB more for itself.
constexpr int32_t shared_limit(int32_t sm, int32_t ctas_per_sm) {
  const int32_t kib = sm >= 90 && sm < 120 ? 228 : sm == 80 || sm == 87 ? 164 : sm > 80 ? 100 : 64;
  return sm < 80 ? kib * 1024 / ctas_per_sm : (kib / ctas_per_sm - 1) * 1024;
}

// Both buffers of terms take 16 KiB, 32 KiB for 8 tokens: two units for each warp at least.
constexpr int32_t most_chunk_groups(int32_t tokens) {
  return tokens == 8 ? 16 : 64 / tokens;
}

constexpr Tiling make_tiling(int32_t tokens, int64_t n_groups, int32_t ctas_per_sm,
                             int32_t n_stages) {
  // Warps get whole pieces where groups allow it.
  constexpr int64_t kRound = int64_t{kWarps} * kPieceUnits;
  const int64_t most = most_chunk_groups(tokens);
  const int64_t n_chunks = (n_groups + most - 1) / most;
  const int64_t even = (n_groups + n_chunks - 1) / n_chunks;
  const int64_t rounded = (even + kRound - 1) / kRound * kRound;
  Tiling tiling;
  tiling.ctas_per_sm = ctas_per_sm;
  tiling.tokens = tokens;
  tiling.n_stages = n_stages;
  tiling.chunk_groups = static_cast<int32_t>(rounded < n_groups ? rounded : n_groups);
  tiling.plane_groups = static_cast<int32_t>(n_groups);
  return tiling;
}

// The most tokens per thread block, up to those there are, whose planes fit beside the rings: two
// thread blocks per multiprocessor with 50 KiB each, so that one streams while the other is at a
// barrier (one token of 57344 x 8192 on an H200: 85.0 us, one block with 100 KiB 85.7; of 12288 x
// 4096: 12.8 and 14.1), else one with 75 KiB. Deeper rings gain nothing. Where not even one token's
// planes fit, they are made anew for each chunk.
constexpr Tiling choose_tiling(int32_t sm, int64_t n_tokens, int64_t n_groups) {
  const int32_t lone_stages = shared_limit(sm, 1) > 128 * 1024 ? 3 : sm >= 80 ? 2 : 1;
  int32_t tokens = kMaxTokens;
  while (tokens > 1 && tokens / 2 >= n_tokens)
    tokens /= 2;
  const bool may_fit = n_groups <= shared_limit(sm, 1) / (cuda_btc::kWordsPerGroup * 4);
  for (; may_fit && tokens >= 1; tokens /= 2) {
    const Tiling pair = make_tiling(tokens, n_groups, 2, 2);
    if (shared_map(pair).bytes <= shared_limit(sm, 2)) return pair;
    const Tiling lone = make_tiling(tokens, n_groups, 1, lone_stages);
    if (shared_map(lone).bytes <= shared_limit(sm, 1)) return lone;
  }
  Tiling tiling = make_tiling(1, n_groups, 1, lone_stages);
  tiling.plane_groups = tiling.chunk_groups;
  return tiling;
}

}  // namespace flexq::btc
