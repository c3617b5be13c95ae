// The copying warpgroup of the wgmma kernel: weights, tokens and both scales into the ring.
#pragma once

#include "kernels/cuda/wgmma_stages.cuh"

namespace flexq {
namespace {

// Warps 0 and 1: half of the units each, and warp 1 the tokens. Issuing copies takes longer than
// they look: lanes of a warp do it one after the other.
template <typename S>
__device__ void copy_codes(const WgmmaArgs& args, const CUtensorMap* tokens, uint32_t shared,
                           const WgmmaBarriers<S>& barriers, int32_t warp) {
  constexpr int32_t kWarpUnits = S::kUnits / 2;
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  const int32_t index = lane < kWarpUnits ? warp * kWarpUnits + lane : S::kUnits;
  const int32_t slot_units = args.store == CudaStore::kSiluMul ? 2 : 1;
  const int32_t rank = S::kCluster == 1 ? 0 : cluster_rank();
  const uint32_t units_to = shared + S::kCodes + index * S::kStageGroups * S::kUnitBytes;
  StageRing<S> ring;
  for (WgmmaItems<S> items(args); items.more(); items.next()) {
    const WgmmaItem item = items.item();
    const WgmmaUnit unit = unit_of<S>(args, item, index);
    const int32_t group_bytes = item.n_slots * slot_units * S::kUnitBytes + S::kGroupTokenBytes;
    const uint8_t* codes = args.parts[unit.part].codes +
                           static_cast<int64_t>(unit.block) * args.n_groups * S::kUnitBytes;
    for (int32_t group = 0; group < args.n_groups; group += S::kStageGroups) {
      const uint32_t full = barriers.full + ring.stage * 8;
      const int32_t n_groups =
          S::kStageGroups == 1 ? 1 : min(S::kStageGroups, args.n_groups - group);
      mbarrier_wait(barriers.empty + ring.stage * 8, ring.parity ^ 1);
      if (warp == 0 && lane == 0) mbarrier_arrive_expect(full, n_groups * group_bytes);
      if (warp == 1 && lane < n_groups) {
        const uint32_t to = shared + (ring.stage * S::kStageGroups + lane) * S::kGroupTokenBytes;
        const int32_t column = (group + lane) * kTokenBytes;
        if constexpr (S::kCluster == 1) {
          copy_box(to, tokens, column, item.first_token, full);
        } else {
          const int32_t half = rank * (S::kTokens / S::kCluster);
          copy_box_to(to + half * kTokenBytes, tokens, column, item.first_token + half, full,
                      (1 << S::kCluster) - 1);
        }
      }
      if (unit.exists)
        cp_async_bulk(units_to + ring.stage * S::kStageCodes, codes, n_groups * S::kUnitBytes,
                      full);
      codes += S::kStageGroups * S::kUnitBytes;
      ring.next();
    }
  }
}

// Where the scale of an item's token lies: sixteen tokens together, so that a lane's tokens 2t, 2t
// + 1, 8 + 2t and 8 + 2t + 1 are one load.
__device__ int32_t token_scale_place(int32_t token) {
  return token / 16 * 16 + token % 8 / 2 * 4 + token % 16 / 8 * 2 + token % 2;
}

// Warps 2 and 3: scales.
template <typename S>
__device__ void copy_scales(const WgmmaArgs& args, uint32_t shared,
                            const WgmmaBarriers<S>& barriers) {
  const int32_t thread = static_cast<int32_t>(threadIdx.x) % kScaleThreads;
  constexpr int32_t kUnitPieces = S::kStageGroups * kUnitScaleBytes / 16;
  const int32_t piece = thread % kUnitPieces;
  StageRing<S> ring;
  for (WgmmaItems<S> items(args); items.more(); items.next()) {
    const WgmmaItem item = items.item();
    const WgmmaUnit unit = unit_of<S>(args, item, thread / kUnitPieces);
    const uint16_t* scales =
        args.parts[unit.part].scales +
        static_cast<int64_t>(unit.block) * args.n_groups * cuda_int8::kUnitRows + piece * 8;
    const float* x_scales = args.x_scales + item.first_token + thread;
    const int32_t tokens_left = args.n_tokens - item.first_token - thread;
    for (int32_t group = 0; group < args.n_groups; group += S::kStageGroups) {
      const int32_t n_groups = min(S::kStageGroups, args.n_groups - group);
      mbarrier_wait(barriers.empty + ring.stage * 8, ring.parity ^ 1);
      if (unit.exists && piece < n_groups * (kUnitScaleBytes / 16))
        cp_async_16(shared + S::kScales + ring.stage * S::kStageScales + thread * 16, scales);
      for (int32_t i = 0; i < n_groups; ++i) {
        const uint32_t to =
            shared + S::kTokenScales + (ring.stage * S::kStageGroups + i) * S::kGroupTokenScales;
#pragma unroll
        for (int32_t token = 0; token < S::kTokens; token += kScaleThreads) {
          if (token + thread < S::kTokens && token < tokens_left)
            cp_async_4(to + token_scale_place(token + thread) * 4, x_scales + token);
        }
        x_scales += args.n_tokens;
      }
      scales += S::kStageGroups * cuda_int8::kUnitRows;
      mbarrier_arrive_after_copies(barriers.full + ring.stage * 8);
      ring.next();
    }
  }
}

}  // namespace
}  // namespace flexq
