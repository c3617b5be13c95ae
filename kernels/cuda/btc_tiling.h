// How the binary tensor-core kernel cuts its work and its shared memory: pure functions of the
// device's generation, the tokens and the groups.
#pragma once

#include <cstdint>

#include "kernels/layout/cuda_btc_layout.h"

namespace flexq::btc {

inline constexpr int32_t kWarps = 8;
inline constexpr int32_t kPieceUnits = 2;  // units of one bulk copy: 3 KiB of planes
inline constexpr int32_t kMaxTokens = 8;
inline constexpr int32_t kTermBytes = 8;  // (float)dot and its scale

struct Tiling {
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

// Shared memory that one thread block may have, compute capability 9.0 being 90.
constexpr int32_t shared_limit(int32_t sm) {
  if (sm >= 90 && sm < 120) return 227 * 1024;
  if (sm == 80 || sm == 87) return 163 * 1024;
  return sm > 80 ? 99 * 1024 : 64 * 1024;
}

// Terms of a chunk, twice, take at most 32 KiB.
constexpr int32_t most_chunk_groups(int32_t tokens) {
  return tokens <= 2 ? 64 : 128 / tokens;
}

// The most tokens per thread block whose planes fit beside the ring; where those of one token do
// not fit, planes are made anew for each chunk.
constexpr Tiling choose_tiling(int32_t sm, int64_t n_tokens, int64_t n_groups) {
  Tiling tiling;
  // 50 to 100 KiB in flight per multiprocessor saturate an H200; smaller devices get what they
  // have.
  tiling.n_stages = shared_limit(sm) > 128 * 1024 ? 4 : sm >= 80 ? 2 : 1;
  tiling.tokens = kMaxTokens;
  while (tiling.tokens > 1 && tiling.tokens / 2 >= n_tokens)
    tiling.tokens /= 2;
  for (;; tiling.tokens /= 2) {
    const int64_t most = most_chunk_groups(tiling.tokens);
    const int64_t n_chunks = (n_groups + most - 1) / most;
    tiling.chunk_groups = static_cast<int32_t>((n_groups + n_chunks - 1) / n_chunks);
    const bool countable = n_groups <= shared_limit(sm) / (cuda_btc::kWordsPerGroup * 4);
    tiling.plane_groups = countable ? static_cast<int32_t>(n_groups) : tiling.chunk_groups;
    if (countable && shared_map(tiling).bytes <= shared_limit(sm)) return tiling;
    if (tiling.tokens == 1) break;
  }
  tiling.plane_groups = tiling.chunk_groups;
  return tiling;
}

}  // namespace flexq::btc
