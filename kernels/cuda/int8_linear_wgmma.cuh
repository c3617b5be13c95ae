// out[t, n] = sum over groups g ascending of fma((float)dot(t, n, g), sx[t, g] * sw[n, g], acc) on
// the tensor cores of Hopper: wgmma with the weights, unpacked, as its A operand in registers and
// the tokens as its B operand in shared memory.
//
// Slots: the row blocks (16 rows, one unit per group) of all parts in a row; with kSiluMul slot s
// is block s of gate and block s of up. A CTA works on items of up to S::kUnits units x S::kTokens
// tokens (wgmma_shape.h says how they are dealt out) and has one fp32 accumulator per output from
// the first group to the last. Warp w of warpgroup i has unit 4i + w; with kSiluMul the first half
// of the warpgroups has gate and the second half up, so that threads in the same place have the
// same outputs of both, and exchange them in shared memory at the end.
//
// Threads: one warpgroup that copies, S::kWarpgroups that multiply. Of the first, warps 0 and 1
// start the bulk copies of units and the boxes of tokens, warps 2 and 3 copy both scales by
// cp.async. Stages of shared memory hold S::kStageGroups groups each and are handed over by
// mbarriers. Registers move from the first warpgroup to the others.
//
// A warpgroup multiplies one step (S::kStepTokens tokens of one group), waits for it, converts,
// scales and adds its integers; the other warpgroups keep the tensor cores busy meanwhile. Where
// registers allow, the next group's weights are unpacked while the last step runs. wgmma reads
// registers until it is waited for, so operands are held (hold_registers) up to that point.
//
// In a cluster of 2 both CTAs have the same tokens and different rows: each fetches half of the
// tokens for both.
//
// N, K and n_tokens of any size. Tokens past the end are zeros, units past the end are neither
// copied nor stored; their products are of whatever shared memory holds.
#pragma once

#include "kernels/cuda/int8_linear_wgmma.h"
#include "kernels/cuda/int8_unit.cuh"
#include "kernels/cuda/mma_int8.cuh"
#include "kernels/cuda/silu.cuh"
#include "kernels/cuda/tensor_copy.cuh"
#include "kernels/cuda/wgmma_int8.cuh"

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
  // Three warpgroups have no registers for two.
  static constexpr int kWeightSets = kWarpgroups == 3 ? 1 : 2;
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
      const int64_t n_slots = args.n_slots;
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

// --- copying -------------------------------------------------------------------------------------

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

// --- multiplying ---------------------------------------------------------------------------------

// What a thread of a multiplying warpgroup holds.
template <typename S>
struct Accumulators {
  float sums[S::kSteps][S::kStepValues];
  int32_t dots[S::kStepValues];          // of a step
  uint32_t weights[S::kWeightSets][16];  // of a group; of even and of odd groups
  float row_scales[2][2];                // of rows lane / 4 and lane / 4 + 8, likewise
};

template <typename S>
class Multiplier {
 public:
  __device__ Multiplier(const uint8_t* shared, int32_t unit_index)
      : shared_(shared),
        barriers_(shared_address(shared)),
        unit_index_(unit_index),
        lane_(static_cast<int32_t>(threadIdx.x) % 32) {}

  // All groups of an item.
  __device__ void multiply(int32_t n_groups, float multiplier, Accumulators<S>& acc) {
    multiplier_ = multiplier;
    mbarrier_wait(barriers_.full + ring_.stage * 8, ring_.parity);
    load_weights<0>(ring_, acc);
    int32_t group = 0;
    for (; group + 2 < n_groups; group += 2) {
      multiply_group<0, true>(acc);
      multiply_group<1, true>(acc);
    }
    if (group + 2 == n_groups) {
      multiply_group<0, true>(acc);
      multiply_group<1, false>(acc);
    } else {
      multiply_group<0, false>(acc);
    }
  }

 private:
  // Phase: whether a group's number in its item is even or odd.
  template <int kPhase>
  static constexpr int kPlace = S::kStageGroups == 2 ? kPhase : 0;  // of a group in its stage
  template <int kPhase>
  static constexpr int kSet = kPhase % S::kWeightSets;

  // Unpacks the unit and reads its scales.
  template <int kPhase>
  __device__ void load_weights(const StageRing<S>& ring, Accumulators<S>& acc) {
    const int32_t place = unit_index_ * S::kStageGroups + kPlace<kPhase>;
    load_unit<S::kBits>(shared_ + S::kCodes + ring.stage * S::kStageCodes + place * S::kUnitBytes,
                        lane_, acc.weights[kSet<kPhase>]);
    const auto* scales =
        reinterpret_cast<const uint16_t*>(shared_ + S::kScales + ring.stage * S::kStageScales +
                                          place * kUnitScaleBytes) +
        lane_ / 4;
    acc.row_scales[kPhase][0] = weight_scale(scales[0], multiplier_);
    acc.row_scales[kPhase][1] = weight_scale(scales[8], multiplier_);
  }

  // Starts the products of one step.
  template <int kPhase>
  __device__ void start(int32_t (&dots)[S::kStepValues], const uint32_t (&weights)[16],
                        int32_t step) {
    const uint64_t tokens =
        wgmma_tokens(shared_address(shared_) +
                     (ring_.stage * S::kStageGroups + kPlace<kPhase>)*S::kGroupTokenBytes +
                     step * S::kStepTokens * kTokenBytes);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      wgmma_s8(dots, weights + 4 * k, tokens + 2 * k, k != 0);
    wgmma_commit();
  }

  // Adds the dots of one step to its sums.
  template <int kPhase>
  __device__ void scale(const int32_t (&dots)[S::kStepValues], float (&sums)[S::kStepValues],
                        const float (&row_scales)[2], int32_t step) {
    const auto* token_scales =
        reinterpret_cast<const float4*>(
            shared_ + S::kTokenScales +
            (ring_.stage * S::kStageGroups + kPlace<kPhase>)*S::kGroupTokenScales) +
        step * (S::kStepTokens / 4) + lane_ % 4;
#pragma unroll
    for (int sixteen = 0; sixteen < S::kStepTokens / 16; ++sixteen) {
      const float4 x_scales = token_scales[sixteen * 4];
      const float of_token[4] = {x_scales.x, x_scales.y, x_scales.z, x_scales.w};
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int value = sixteen * 8 + i;
        sums[value] = add_group(sums[value], static_cast<float>(dots[value]),
                                of_token[i / 4 * 2 + i % 2], row_scales[i % 4 / 2]);
      }
    }
  }

  // kMore: another group follows, whose weights are unpacked meanwhile.
  template <int kPhase, bool kMore>
  __device__ void multiply_group(Accumulators<S>& acc) {
    constexpr int kNext = kPhase ^ 1;
    constexpr bool kSameStage = S::kStageGroups == 2 && kPhase == 0 && kMore;
    auto& weights = acc.weights[kSet<kPhase>];
    StageRing<S> next = ring_;
    if constexpr (!kSameStage) next.next();
    const auto load_next = [&] {
      if constexpr (kMore) {
        if constexpr (!kSameStage) mbarrier_wait(barriers_.full + next.stage * 8, next.parity);
        load_weights<kNext>(next, acc);
      }
    };
#pragma unroll
    for (int step = 0; step < S::kSteps; ++step) {
      const bool last = step + 1 == S::kSteps;
      start<kPhase>(acc.dots, weights, step);
      if (last && S::kWeightSets == 2) load_next();
      wgmma_wait<0>();
      hold_registers(acc.dots);
      if (last) hold_registers(weights);
      if (last && S::kWeightSets == 1) load_next();
      scale<kPhase>(acc.dots, acc.sums[step], acc.row_scales[kPhase], step);
      hold_registers(acc.sums[step]);
    }
    if constexpr (!kSameStage) release();
    ring_ = next;
  }

  // The stage is read: of the cluster's CTAs each may fill it. Every lane says so for itself: one
  // that speaks for its warp after __syncwarp() is a hazard to racecheck.
  __device__ void release() {
    const uint32_t empty = barriers_.empty + ring_.stage * 8;
    if constexpr (S::kCluster == 1) {
      mbarrier_arrive(empty);
    } else {
      for (int32_t cta = 0; cta < S::kCluster; ++cta)
        mbarrier_arrive_at(empty, cta);
    }
  }

  const uint8_t* shared_;
  WgmmaBarriers<S> barriers_;
  StageRing<S> ring_;
  int32_t unit_index_;
  int32_t lane_;
  float multiplier_ = 0;
};

// --- storing -------------------------------------------------------------------------------------

// Outputs of a thread in the order of its sums: value i belongs to token i / 4 * 8 + lane % 4 * 2 +
// i % 2 of the item and to row lane / 4 + i % 4 / 2 * 8 of the unit.
struct OutputPlace {
  float* first;  // of the thread's first token and row
  int64_t stride;
  int32_t n_tokens;  // of the item, from the thread's first one on
  int32_t n_rows;    // likewise

  __device__ OutputPlace(const WgmmaPart& part, const WgmmaItem& item, int32_t block,
                         int32_t n_tokens_of_all) {
    const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
    const int32_t token = item.first_token + lane % 4 * 2;
    const int32_t row = block * static_cast<int32_t>(cuda_int8::kUnitRows) + lane / 4;
    first = part.out + token * part.out_stride + row;
    stride = part.out_stride;
    n_tokens = n_tokens_of_all - token;
    n_rows = part.n_rows - row;
  }
  __device__ static int32_t token(int32_t value) { return value / 4 * 8 + value % 2; }
  __device__ static int32_t row(int32_t value) { return value % 4 / 2 * 8; }
  __device__ bool exists(int32_t value) const {
    return token(value) < n_tokens && row(value) < n_rows;
  }
  __device__ float* at(int32_t value) const { return first + token(value) * stride + row(value); }
};

// The biases of a thread's two rows.
__device__ float2 row_biases(const WgmmaPart& part, int32_t block) {
  if (part.bias == nullptr) return make_float2(0, 0);
  const int32_t row = block * static_cast<int32_t>(cuda_int8::kUnitRows) +
                      static_cast<int32_t>(threadIdx.x) % 32 / 4;
  return make_float2(row < part.n_rows ? part.bias[row] : 0,
                     row + 8 < part.n_rows ? part.bias[row + 8] : 0);
}

template <typename S>
__device__ void store_sums(const WgmmaArgs& args, const WgmmaItem& item, const WgmmaUnit& unit,
                           float (&sums)[S::kSteps][S::kStepValues]) {
  const WgmmaPart& part = args.parts[unit.part];
  if (part.bias != nullptr) {
    const float2 bias = row_biases(part, unit.block);
#pragma unroll
    for (int i = 0; i < S::kTokens / 2; ++i) {
      float& sum = sums[i / S::kStepValues][i % S::kStepValues];
      sum = __fadd_rn(sum, i % 4 < 2 ? bias.x : bias.y);
    }
  }
  const OutputPlace out(part, item, unit.block, args.n_tokens);
#pragma unroll
  for (int step = 0; step < S::kSteps; ++step) {
    constexpr int kValues = S::kStepValues;
    // All loads first: each waits for memory.
    float before[kValues];
    if (args.store == CudaStore::kAdd) {
#pragma unroll
      for (int i = 0; i < kValues; ++i)
        before[i] = out.exists(step * kValues + i) ? *out.at(step * kValues + i) : 0.0f;
#pragma unroll
      for (int i = 0; i < kValues; ++i)
        sums[step][i] = __fadd_rn(before[i], sums[step][i]);
    }
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      if (out.exists(step * kValues + i)) *out.at(step * kValues + i) = sums[step][i];
    }
  }
}

// All threads of two warpgroups meet. Barrier 0 is __syncthreads().
__device__ inline void sync_warpgroups(int32_t pair) {
  asm volatile("bar.sync %0, 256;" ::"r"(pair + 1) : "memory");
}

// silu(gate) * up: of a thread's outputs the gate warpgroup finishes the first half, the up
// warpgroup the second.
template <typename S>
__device__ void store_silu(const WgmmaArgs& args, const WgmmaItem& item, const WgmmaUnit& unit,
                           int32_t warpgroup, float* exchange,
                           const float (&sums)[S::kSteps][S::kStepValues]) {
  constexpr int kHalf = S::kTokens / 4;
  constexpr int kRound = S::kExchangeFloats;
  const bool is_gate = unit.part == 0;
  const auto thread = static_cast<int32_t>(threadIdx.x) % 128;
  const int32_t pair = warpgroup % (S::kWarpgroups / 2);
  const int32_t other = (warpgroup + S::kWarpgroups / 2) % S::kWarpgroups;
  auto* sent = reinterpret_cast<float4*>(exchange) + warpgroup * 128 * (kRound / 4) + thread;
  const auto* received =
      reinterpret_cast<const float4*>(exchange) + other * 128 * (kRound / 4) + thread;
  const float2 gate_bias = row_biases(args.parts[0], unit.block);
  const float2 up_bias = row_biases(args.parts[1], unit.block);
  const bool has_gate_bias = args.parts[0].bias != nullptr;
  const bool has_up_bias = args.parts[1].bias != nullptr;
  const OutputPlace out(args.parts[0], item, unit.block, args.n_tokens);
  const auto sum = [&](int value) { return sums[value / S::kStepValues][value % S::kStepValues]; };
#pragma unroll
  for (int begin = 0; begin < kHalf; begin += kRound) {
#pragma unroll
    for (int i = 0; i < kRound; i += 4) {
      float four[4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        four[j] = is_gate ? sum(kHalf + begin + i + j) : sum(begin + i + j);
      sent[i / 4 * 128] = make_float4(four[0], four[1], four[2], four[3]);
    }
    sync_warpgroups(pair);
#pragma unroll
    for (int i = 0; i < kRound; i += 4) {
      const float4 theirs4 = received[i / 4 * 128];
      const float theirs[4] = {theirs4.x, theirs4.y, theirs4.z, theirs4.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int value = begin + i + j;
        const float own = is_gate ? sum(value) : sum(kHalf + value);
        float gate = is_gate ? own : theirs[j];
        float up = is_gate ? theirs[j] : own;
        if (has_gate_bias) gate = __fadd_rn(gate, value % 4 < 2 ? gate_bias.x : gate_bias.y);
        if (has_up_bias) up = __fadd_rn(up, value % 4 < 2 ? up_bias.x : up_bias.y);
        const int32_t place = is_gate ? value : kHalf + value;
        if (unit.exists && out.exists(place)) *out.at(place) = silu_times(gate, up);
      }
    }
    sync_warpgroups(pair);
  }
}

template <typename S>
__device__ void multiply_items(const WgmmaArgs& args, uint8_t* shared, int32_t warp) {
  const int32_t unit_index = warp - kCopyThreads / 32;
  Multiplier<S> multiplier(shared, unit_index);
  Accumulators<S> acc;
#pragma unroll
  for (int i = 0; i < S::kStepValues; ++i) {
    acc.dots[i] = 0;
  }
  for (WgmmaItems<S> items(args); items.more(); items.next()) {
    const WgmmaItem item = items.item();
    const WgmmaUnit unit = unit_of<S>(args, item, unit_index);
#pragma unroll
    for (int step = 0; step < S::kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < S::kStepValues; ++i)
        acc.sums[step][i] = 0;
    }
    multiplier.multiply(args.n_groups, args.parts[unit.part].multiplier, acc);
    if constexpr (S::kGates) {
      if (args.store == CudaStore::kSiluMul) {
        store_silu<S>(args, item, unit, unit_index / 4,
                      reinterpret_cast<float*>(shared + S::kExchange), acc.sums);
        continue;
      }
    }
    if (unit.exists) store_sums<S>(args, item, unit, acc.sums);
  }
}

// --- the kernel ----------------------------------------------------------------------------------

template <typename S>
__device__ void linear_wgmma(const CUtensorMap* tokens, const WgmmaArgs& args) {
  extern __shared__ uint8_t unaligned[];
  uint8_t* shared = unaligned + (1024 - shared_address(unaligned) % 1024) % 1024;
  const WgmmaBarriers<S> barriers(shared_address(shared));
  if (threadIdx.x == 0) barriers.init();
  if constexpr (S::kCluster == 1) {
    __syncthreads();
  } else {
    cluster_sync();
  }
  const auto warp = static_cast<int32_t>(threadIdx.x) / 32;
  if (warp < kCopyThreads / 32) {
    give_registers<S::kCopyRegisters>();
    if (warp < 2) copy_codes<S>(args, tokens, shared_address(shared), barriers, warp);
    if (warp >= 2) copy_scales<S>(args, shared_address(shared), barriers);
  } else {
    take_registers<S::kMultiplyRegisters>();
    multiply_items<S>(args, shared, warp);
  }
  // Nobody leaves while the other CTA may still arrive at its barriers.
  if constexpr (S::kCluster != 1) cluster_sync();
}

// nvcc takes cluster sizes only where there are clusters.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define FLEXQ_CLUSTER_OF_2
#else
#define FLEXQ_CLUSTER_OF_2 __cluster_dims__(2, 1, 1)
#endif

template <typename S>
__global__ void __launch_bounds__(S::kThreads, 1)
    wgmma_kernel(const __grid_constant__ CUtensorMap tokens,
                 const __grid_constant__ WgmmaArgs args) {
  if constexpr (kHasWgmma) linear_wgmma<S>(&tokens, args);
}

template <typename S>
__global__ void FLEXQ_CLUSTER_OF_2 __launch_bounds__(S::kThreads, 1)
    wgmma_pair_kernel(const __grid_constant__ CUtensorMap tokens,
                      const __grid_constant__ WgmmaArgs args) {
  if constexpr (kHasWgmma) linear_wgmma<S>(&tokens, args);
}
#undef FLEXQ_CLUSTER_OF_2

template <int kBits, WgmmaShape kShape>
cudaError_t launch_wgmma(const CudaLaunch& where, const WgmmaArgs& args, const int8_t* x_codes) {
  using S = WgmmaTraits<kBits, kShape>;
  if (!kShape.gates() && args.store == CudaStore::kSiluMul) return cudaErrorInvalidValue;
  CUtensorMap tokens;
  const cudaError_t error = where.runtime->encode_byte_map(
      &tokens, x_codes, args.n_tokens, int64_t{args.n_groups} * cuda_int8::kGroupSize,
      S::kTokens / S::kCluster);
  if (error != cudaSuccess) return error;
  const int64_t item_slots = args.store == CudaStore::kSiluMul ? S::kUnits / 2 : S::kUnits;
  int64_t n_ctas = args.n_slots;
  if (!S::kStretches) {
    const int64_t tile_slots = item_slots * S::kCluster;
    n_ctas = (args.n_slots + tile_slots - 1) / tile_slots *
             ((args.n_tokens + S::kTokens - 1) / S::kTokens) * S::kCluster;
  } else if (args.n_tokens > S::kTokens) {
    return cudaErrorInvalidValue;
  }
  const int64_t most = where.n_sms / S::kCluster * S::kCluster;
  const auto grid = static_cast<uint32_t>(n_ctas < most ? n_ctas : most);
  constexpr auto kBytes = static_cast<size_t>(wgmma_shared_bytes(kBits, kShape));
  if constexpr (S::kCluster == 1)
    return launch(where, wgmma_kernel<S>, dim3(grid), dim3(S::kThreads), kBytes, tokens, args);
  else
    return launch(where, wgmma_pair_kernel<S>, dim3(grid), dim3(S::kThreads), kBytes, tokens, args);
}

}  // namespace
}  // namespace flexq
