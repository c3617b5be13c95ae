// What int8_linear_fused.cu takes, and which groups of which row blocks each of its CTAs and warps
// multiplies, in which order.
#pragma once

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/fused_linear_shape.h"
#include "kernels/cuda/row_quantizer.cuh"

namespace flexq {
namespace {

using cuda_int8::kUnitRows;

constexpr int32_t kRows = static_cast<int32_t>(kUnitRows);
constexpr int32_t kMultiplyThreads = kFusedWarps * 32;
constexpr int32_t kGroupColumns = static_cast<int32_t>(kGroupSize);
constexpr int32_t kUnitScaleBytes = kRows * 2;

// What the kernel does ahead of the products.
enum class FusedInput { kCodes, kRows, kNorm, kWideNorm };
// Columns that kNorm takes in: a quad of every thread of rms_norm_quantize_kernel.
constexpr int64_t kLapColumns = int64_t{kMostNormThreads} * kQuad;
static_assert(kFusedNormColumns == 2 * kLapColumns, "kWideNorm goes two laps");

template <int kBits_, int kTokens_>
struct FusedShape {
  static constexpr int kBits = kBits_;
  static constexpr int kTokens = kTokens_;  // columns of B that are looked at
  static constexpr int kUnitBytes = static_cast<int>(cuda_int8::unit_bytes(kBits));
  static constexpr int kPieceGroups = fused_piece_groups(kBits, kTokens);
  static constexpr int kPieceCodes = kPieceGroups * kUnitBytes;
  static constexpr int kPieceBytes = static_cast<int>(fused_piece_bytes(kBits, kTokens));
  static constexpr int kRoundGroups = fused_round_groups(kBits, kTokens);
  static constexpr int kTokenDots = fused_token_dots(kTokens);
  static constexpr int kGroupDots = kTokens * kTokenDots;
  static constexpr int kBufferBytes = static_cast<int>(fused_buffer_bytes(kBits, kTokens));
  static constexpr int kAddThreads = kTokens == 1 ? 32 : kTokens * kRows;
  static constexpr int kThreads = kMultiplyThreads + kAddThreads;
  static_assert(kPieceGroups * kRows / 2 <= 32, "a lane copies one pair of scales of a piece");
};

struct FusedPart {
  const uint8_t* codes;
  const uint16_t* scales;
  const float* bias;
  float* out;
  int64_t out_stride;
  float multiplier;
  int32_t n_rows;
  int32_t n_blocks;
};

struct FusedArgs {
  FusedPart parts[kMaxLinearParts];
  int32_t n_parts;
  int32_t n_blocks;  // of all parts; two of each pair for kSiluMul
  int32_t n_groups;
  int32_t n_cluster;      // CTAs of a cluster: fused_pair_cluster()
  int32_t n_rounds;       // of a block
  int32_t longest_share;  // groups of its first n_longest rounds; the others have one less
  int32_t n_longest;
  int32_t n_tokens;
  CudaStore store;
  // The input: codes and scales, or a row of n_cols floats.
  const int8_t* x_codes;
  const float* x_scales;
  const float* x_row;
  const float* norm;
  int32_t n_cols;
  float eps;
  int32_t code_max;
  // Bytes into shared memory.
  int32_t token_bytes;
  int32_t activations;
  int32_t token_scales;
  int32_t warp_sums;
  int32_t gates;
  int32_t barriers;
  int32_t last_rounds;  // the next kernel may start when so many are left to add
};

// The rounds of a CTA in order, and where each is. Groups are shared among the rounds of a block as
// evenly as can be, the longer shares first.
struct Walk {
  const FusedArgs& args;
  int32_t n_left;  // blocks
  int32_t part = 0;
  int32_t block;  // of the part
  int32_t round = 0;
  int32_t first = 0;  // group
  int32_t n_groups;
  int32_t shared_block = -1;  // of the pair whose other block is the other CTA's: comes last

  __device__ explicit Walk(const FusedArgs& a) : args(a), n_groups(a.longest_share) {
    const uint32_t team = blockIdx.x >> (a.n_cluster - 1);
    const uint32_t n_teams = gridDim.x >> (a.n_cluster - 1);
    const auto n_turns = static_cast<uint32_t>(pairs() ? a.n_blocks / 2 : a.n_blocks);
    const auto begin = static_cast<int32_t>(n_turns * team / n_teams);
    const auto n_own = static_cast<int32_t>(n_turns * (team + 1) / n_teams) - begin;
    block = begin;
    if (pairs()) {
      n_left = a.n_cluster == 2 ? n_own : n_own * 2;
      if (a.n_cluster == 2) {
        block += n_own / 2 * rank();
        if (n_own % 2 == 1) shared_block = begin + n_own - 1;
        if (n_own == 1) share();
      }
      return;
    }
    n_left = n_own;
    while (block >= a.parts[part].n_blocks)
      block -= a.parts[part++].n_blocks;
  }
  __device__ bool pairs() const { return args.store == CudaStore::kSiluMul; }
  __device__ int32_t rank() const { return static_cast<int32_t>(blockIdx.x) % 2; }
  __device__ bool more() const { return n_left > 0; }
  // In the block of a pair that two CTAs share.
  __device__ bool shares() const { return n_left == 1 && shared_block >= 0; }
  __device__ void share() {
    block = shared_block;
    part = rank();
  }
  __device__ bool ends_block() const { return round + 1 == args.n_rounds; }
  __device__ void next() {
    first += n_groups;
    if (++round == args.n_longest) --n_groups;
    if (round < args.n_rounds) return;
    round = 0;
    first = 0;
    n_groups = args.longest_share;
    --n_left;
    if (pairs()) {
      block += part;
      part ^= 1;
      if (shares()) share();
    } else if (++block == args.parts[part].n_blocks) {
      block = 0;
      part = min(part + 1, args.n_parts - 1);
    }
  }
};

// The groups of a round that one warp multiplies.
struct Piece {
  int32_t first;
  int32_t n;

  __device__ Piece(const Walk& walk, int32_t warp)
      : first(walk.first + walk.n_groups * warp / kFusedWarps),
        n(walk.first + walk.n_groups * (warp + 1) / kFusedWarps - first) {}
};

struct FusedBarriers {
  uint32_t full;  // kFusedStages for each warp
  uint32_t dots_full;
  uint32_t dots_empty;
  uint32_t gates;  // of the shared pair, from the other CTA

  __device__ explicit FusedBarriers(uint32_t address)
      : full(address),
        dots_full(full + kFusedWarps * kFusedStages * 8),
        dots_empty(dots_full + 16),
        gates(dots_empty + 16) {}
};

}  // namespace
}  // namespace flexq
