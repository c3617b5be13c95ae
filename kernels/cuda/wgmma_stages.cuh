// What the parts of the wgmma kernel (int8_linear_wgmma.cuh) share: its arguments, where a shape
// has what in shared memory, the ring of stages and the items of a CTA.
#pragma once

#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/int8_linear_wgmma.h"
#include "kernels/cuda/int8_unit.cuh"
#include "kernels/cuda/mma_int8.cuh"
#include "kernels/cuda/tensor_copy.cuh"

namespace flexq {
namespace {

constexpr int32_t kCopyThreads = 128;  // a whole warpgroup, so that it can give registers
constexpr int32_t kScaleThreads = 64;  // of them
constexpr int32_t kUnitScaleBytes = static_cast<int32_t>(cuda_int8::kUnitRows) * 2;
constexpr int32_t kTokenBytes = static_cast<int32_t>(cuda_int8::kGroupSize);  // of one group

struct WgmmaPart {
  const uint8_t* codes;
  const uint16_t* scales;
  const float* bias;
  float* out;
  int64_t out_stride;
  float multiplier;  // of weight scales; a quarter of the matrix's for 6 bits
  int32_t n_rows;
  int32_t first_slot;
};

struct WgmmaArgs {
  WgmmaPart parts[kMaxLinearParts];
  const float* x_scales;  // (n_groups, n_tokens)
  CudaStore store;
  int32_t n_parts;
  int32_t n_slots;
  int32_t n_groups;
  int32_t n_tokens;
};

// Everything that follows from a shape; where shared memory holds what, in bytes.
template <int kBits_, WgmmaShape kShape>
struct WgmmaTraits {
  static constexpr int kBits = kBits_;
  static constexpr int kWarpgroups = kShape.warpgroups;
  static constexpr int kUnits = kShape.units();
  static constexpr int kTokens = kShape.tokens;
  static constexpr int kStepTokens = kShape.step_tokens;
  static constexpr int kSteps = kTokens / kStepTokens;
  static constexpr int kStepValues = kStepTokens / 2;  // of a thread
  static constexpr int kStages = wgmma_stages(kBits, kShape);
  static_assert(kStages >= 2, "one stage is filled while another is read");
  static constexpr int kStageGroups = kShape.stage_groups;
  static constexpr int kCluster = kShape.cluster;
  static constexpr bool kGates = kShape.gates();
  static constexpr bool kStretches = kShape.stretches;
  // Three warpgroups, and four with the dots of many tokens, have no registers for two.
  static constexpr int kWeightSets =
      kWarpgroups == 3 || (kWarpgroups == 4 && kStepTokens > 32) ? 1 : 2;
  static constexpr int kThreads = kShape.threads();

  // Of a multiprocessor's 64 Ki registers, in eights.
  static constexpr int kLaunchRegisters = 65536 / kThreads / 8 * 8;
  // Copying spills a little with 24, but leaves multiplying the registers it needs.
  static constexpr int kCopyRegisters = kWarpgroups > 2 || kTokens > 128 ? 24 : 40;
  static constexpr int kSpread =
      (kLaunchRegisters * kThreads - kCopyRegisters * kCopyThreads) / (kWarpgroups * 128) / 8 * 8;
  static constexpr int kMultiplyRegisters = kSpread < 240 ? kSpread : 240;

  static constexpr int kUnitBytes = static_cast<int>(cuda_int8::unit_bytes(kBits));
  static constexpr int kGroupTokenBytes = kTokens * kTokenBytes;
  static constexpr int kCodes = kStages * kStageGroups * kGroupTokenBytes;
  static constexpr int kStageCodes = kUnits * kStageGroups * kUnitBytes;
  static constexpr int kScales = kCodes + kStages * kStageCodes;
  static constexpr int kStageScales = kUnits * kStageGroups * kUnitScaleBytes;
  static constexpr int kTokenScales = kScales + kStages * kStageScales;
  static constexpr int kGroupTokenScales = kTokens * 4;
  static constexpr int kExchange = kTokenScales + kStages * kStageGroups * kGroupTokenScales;
  static constexpr int kExchangeFloats = wgmma_exchange_floats(kShape);
  static constexpr int kBarriers = kExchange + kWarpgroups * 128 * kExchangeFloats * 4;
  static constexpr int kSharedBytes = kBarriers + kStages * 16;
  static_assert(kSharedBytes + 1024 == wgmma_shared_bytes(kBits, kShape),
                "select_linear() counts on it");
  static_assert(kTokens % 16 == 0 && kTokens % kStepTokens == 0 && kTokens / kCluster <= 256,
                "token scales come in sixteens, a box has at most 256 rows");
  static_assert(kStageGroups == 1 || kStageGroups == 2, "a stage is one phase or both");
  static_assert(kUnits * kStageGroups * 2 <= kScaleThreads && kUnits < 32,
                "one piece of weight scales per thread, one unit per lane");
  static_assert(!kStretches || kCluster == 1, "stretches share nothing");
};

// Full and empty stages.
template <typename S>
struct WgmmaBarriers {
  uint32_t full;
  uint32_t empty;

  __device__ explicit WgmmaBarriers(uint32_t shared)
      : full(shared + S::kBarriers), empty(full + S::kStages * 8) {}
  __device__ void init() const {
    for (int stage = 0; stage < S::kStages; ++stage) {
      mbarrier_init(full + stage * 8, 1 + kScaleThreads);
      mbarrier_init(empty + stage * 8, S::kWarpgroups * 128 * S::kCluster);
    }
    fence_mbarrier_init();
  }
};

// A stage of the ring and the parity of its phase.
template <typename S>
struct StageRing {
  int32_t stage = 0;
  uint32_t parity = 0;

  __device__ void next() {
    if (++stage == S::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// Units [first_slot, first_slot + n_slots) x tokens from first_token on.
struct WgmmaItem {
  int32_t first_slot;
  int32_t n_slots;
  int32_t first_token;
};

// The items of a CTA.
template <typename S>
class WgmmaItems {
 public:
  __device__ explicit WgmmaItems(const WgmmaArgs& args)
      : item_slots_(args.store == CudaStore::kSiluMul ? S::kUnits / 2 : S::kUnits),
        n_slots_(args.n_slots) {
    if constexpr (S::kStretches) {
      const auto n_slots = static_cast<uint32_t>(args.n_slots);
      index_ = static_cast<int32_t>(n_slots * blockIdx.x / gridDim.x);
      end_ = static_cast<int32_t>(n_slots * (blockIdx.x + 1) / gridDim.x);
    } else {
      const int32_t tile_slots = item_slots_ * S::kCluster;
      row_tiles_ = (args.n_slots + tile_slots - 1) / tile_slots;
      token_tiles_ = (args.n_tokens + S::kTokens - 1) / S::kTokens;
      index_ = static_cast<int32_t>(blockIdx.x) / S::kCluster;
      end_ = row_tiles_ * token_tiles_;
    }
  }
  __device__ bool more() const { return index_ < end_; }
  __device__ void next() {
    index_ += S::kStretches ? item_slots_ : static_cast<int32_t>(gridDim.x) / S::kCluster;
  }
  __device__ WgmmaItem item() const {
    if constexpr (S::kStretches) return {index_, min(item_slots_, end_ - index_), 0};
    // CTAs that run together have few tokens and few rows in common: blocks of kBlockTokens token
    // tiles, through which all rows go.
    constexpr int32_t kBlockTokens = 8;
    const int32_t first_tile = index_ / (row_tiles_ * kBlockTokens) * kBlockTokens;
    const int32_t width = min(kBlockTokens, token_tiles_ - first_tile);
    const int32_t in_block = index_ - first_tile * row_tiles_;
    const int32_t row_tile =
        in_block / width * S::kCluster + (S::kCluster == 1 ? 0 : cluster_rank());
    const int32_t slot = row_tile * item_slots_;
    return {slot, max(0, min(item_slots_, n_slots_ - slot)),
            (first_tile + in_block % width) * S::kTokens};
  }

 private:
  int32_t item_slots_;
  int32_t n_slots_;
  int32_t row_tiles_ = 0;
  int32_t token_tiles_ = 0;
  int32_t index_;
  int32_t end_;
};

// The unit that is number `index` of an item.
struct WgmmaUnit {
  int32_t part;
  int32_t block;  // of the part
  bool exists;
};
template <typename S>
__device__ WgmmaUnit unit_of(const WgmmaArgs& args, const WgmmaItem& item, int32_t index) {
  if (args.store == CudaStore::kSiluMul) {
    constexpr int32_t kPairs = S::kUnits / 2;
    const int32_t pair = index % kPairs;
    return {index < kPairs ? 0 : 1, item.first_slot + pair,
            index < S::kUnits && pair < item.n_slots};
  }
  const int32_t slot = item.first_slot + index;
  int32_t part = 0;
  while (part + 1 < args.n_parts && slot >= args.parts[part + 1].first_slot)
    ++part;
  return {part, slot - args.parts[part].first_slot, index < item.n_slots};
}

}  // namespace
}  // namespace flexq
