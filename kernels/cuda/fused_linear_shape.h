// Sizes of int8_linear_fused.cu and when it serves: pure functions, no CUDA header, tested without
// a GPU.
#pragma once

#include <cstdint>

#include "kernels/cuda/cuda_family.h"
#include "kernels/cuda/linear_select.h"
#include "kernels/cuda/shared_limit.h"
#include "kernels/layout/cuda_int8_layout.h"

namespace flexq {

inline constexpr int32_t kFusedWarps = 8;   // that multiply
inline constexpr int32_t kFusedStages = 2;  // pieces of weights on their way to each of them
// Of these, filled only when a row that is to be normalized has arrived: memory has nothing else to
// do from then on until the products begin.
inline constexpr int32_t kFusedLateStages = 1;

// Tokens that a kernel is compiled for.
constexpr int32_t fused_tile_tokens(int64_t n_tokens) {
  return n_tokens == 1 ? 1 : 8;
}
// Groups of one row block that a warp takes at a time: 6 KB of weights for one token, so that 100
// KB per multiprocessor are on their way. Half of it where the activations of 8 tokens take the
// room.
constexpr int32_t fused_piece_groups(int32_t weight_bits, int32_t tile_tokens) {
  if (tile_tokens > 1) return 2;
  return weight_bits == 6 ? 4 : 3;
}
constexpr int32_t fused_round_groups(int32_t weight_bits, int32_t tile_tokens) {
  return kFusedWarps * fused_piece_groups(weight_bits, tile_tokens);
}
constexpr int64_t fused_piece_bytes(int32_t weight_bits, int32_t tile_tokens) {
  return fused_piece_groups(weight_bits, tile_tokens) *
         (cuda_int8::unit_bytes(weight_bits) + cuda_int8::kUnitRows * 2);
}
// Words between the dots of two tokens: with several tokens 4 more than the 16 rows, so that the
// 8 x 4 dots which a warp writes at once fall into different banks.
constexpr int32_t fused_token_dots(int32_t tile_tokens) {
  return tile_tokens == 1 ? 16 : 20;
}
// One of two buffers: dots (group, token, row) and weight scales (group, row) as fp16.
constexpr int64_t fused_buffer_bytes(int32_t weight_bits, int32_t tile_tokens) {
  return fused_round_groups(weight_bits, tile_tokens) *
         (tile_tokens * fused_token_dots(tile_tokens) * 4 + cuda_int8::kUnitRows * 2);
}
// Codes of a token and 16 bytes more, so that 8 tokens start in different banks.
constexpr int64_t fused_token_bytes(int64_t n_groups, int32_t tile_tokens) {
  return n_groups * cuda_int8::kGroupSize + (tile_tokens == 1 ? 0 : 16);
}
// Stages, buffers, codes and scales of the activations, sums of squares of 32 warps, the gates of a
// pair, barriers.
constexpr int64_t fused_shared_bytes(int32_t weight_bits, int64_t n_tokens, int64_t n_groups) {
  const int32_t tile = fused_tile_tokens(n_tokens);
  return kFusedWarps * kFusedStages * fused_piece_bytes(weight_bits, tile) +
         2 * fused_buffer_bytes(weight_bits, tile) + n_tokens * fused_token_bytes(n_groups, tile) +
         (n_groups * tile + 3) / 4 * 16 + 32 * 4 + cuda_int8::kUnitRows * 4 +
         (kFusedWarps * kFusedStages + 5) * 8;
}

// CTAs of a cluster, 1 or 2: two have a stretch of pairs of a gate and an up block together, and
// where their number is odd each makes one block of the last. So no CTA has more than 11 of the
// 1376 blocks of LLaMA-2-7B on the 132 multiprocessors of an H200; alone, some would have 12.
constexpr int32_t fused_pair_cluster(int32_t n_pairs, int32_t grid) {
  if (grid % 2 != 0) return 1;
  const int32_t n_teams = grid / 2;
  const int32_t shared_longest = (n_pairs + n_teams - 1) / n_teams;
  return shared_longest < (n_pairs + grid - 1) / grid * 2 ? 2 : 1;
}

// What a launch asks for. The linears of a chain that add to the residual stream take more than
// half of a multiprocessor, those between them less: neighbours overlap, and no multiprocessor gets
// two CTAs of one kernel (22 of 132 did, which took 3 us a layer of LLaMA-2-7B).
constexpr int64_t fused_launch_bytes(int32_t weight_bits, int64_t n_tokens, int64_t n_groups,
                                     CudaStore store) {
  const int64_t bytes = fused_shared_bytes(weight_bits, n_tokens, n_groups);
  return store == CudaStore::kAdd && bytes < kSharedBytesAlone ? kSharedBytesAlone : bytes;
}

// Rounds of a CTA that are left to add when the next kernel may start, a round being at most
// round_groups groups of a block: about 200 KB, the last 100 of them on their way to the ring. The
// next kernel's ring fills while this kernel's weights run out: earlier it would take memory
// bandwidth from them, and what starts less than 4 us before this kernel's end waits the longer for
// it. A CTA with no more rounds than these lets it start when the kernel before is done, and CTAs
// of least_rounds and more with much to do as soon as they multiply: at their end, some
// multiprocessors are empty and would get two of the next kernel's CTAs (57344 x 8192 in a loop: 98
// us against 87).
constexpr int32_t fused_last_rounds(int32_t weight_bits, int32_t round_groups, int32_t least_rounds,
                                    CudaStore store) {
  // Measured on one token, where a round of 6 bits is 50 KB (46 in down_proj of LLaMA-2-7B).
  constexpr int64_t kLastBytes = 205 * 1000;      // four rounds
  constexpr int64_t kPairLastBytes = 195 * 1000;  // three
  // Five, of long stretches that add to the residual stream: LLaMA-2-70B 70.0 tokens per second,
  // with four 68.5. LLaMA-2-7B's short ones are slower with five.
  constexpr int64_t kLongLastBytes = 251 * 1000;
  constexpr int32_t kLongRounds = 5;
  constexpr int64_t kMuchBytes = 1500 * 1000;
  const int64_t round_bytes =
      round_groups * (cuda_int8::unit_bytes(weight_bits) + cuda_int8::kUnitRows * 2);
  if (least_rounds * round_bytes > kMuchBytes) return least_rounds - 1;
  const bool is_long = store == CudaStore::kAdd && least_rounds >= kLongRounds;
  const int64_t last_bytes = store == CudaStore::kSiluMul ? kPairLastBytes
                             : is_long                    ? kLongLastBytes
                                                          : kLastBytes;
  return static_cast<int32_t>(last_bytes / round_bytes);
}

// Columns of the widest row that the kernel normalizes: the quads of 8 warps are kept in registers.
inline constexpr int64_t kFusedNormColumns = 8192;
// Where there is no wgmma; with it one token: a layer of LLaMA-2-7B takes 82 us here at 2 tokens on
// an H200, and 65 with the kernels that linear_select.h chooses.
inline constexpr int64_t kFusedMaxTokens = 4;

struct FusedProblem {
  int32_t sm = 0;
  CudaFamily family = CudaFamily::kInt8;
  int32_t weight_bits = 6;
  int64_t n_cols = 0;
  int64_t n_tokens = 0;
};

// Whether int8_linear_fused can multiply.
constexpr bool can_fuse_linear(const FusedProblem& problem) {
  return problem.sm >= 90 && problem.sm < 120 && problem.family == CudaFamily::kInt8 &&
         problem.n_tokens <= kFusedMaxTokens &&
         fused_shared_bytes(problem.weight_bits, problem.n_tokens,
                            cuda_int8::n_groups(problem.n_cols)) <=
             shared_bytes_per_cta(problem.sm);
}
// Whether it serves; else the kernels of linear_select.h.
constexpr bool fuses_linear(const FusedProblem& problem) {
  return can_fuse_linear(problem) && (problem.sm != 90 || problem.n_tokens == 1);
}
// Whether it also normalizes and quantizes its input: each of its CTAs does so for itself, which
// would cost more than a kernel of its own where there are several rows.
constexpr bool fuses_quantization(const FusedProblem& problem, bool norms) {
  return problem.n_tokens == 1 && fuses_linear(problem) &&
         (!norms || problem.n_cols <= kFusedNormColumns);
}

}  // namespace flexq
