// A multiplying warpgroup of the wgmma kernel: from stages of the ring to fp32 sums.
#pragma once

#include "kernels/cuda/wgmma_int8.cuh"
#include "kernels/cuda/wgmma_stages.cuh"

namespace flexq {
namespace {

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

  // An item of which the warpgroup has no rows: the others are not kept from multiplying theirs.
  __device__ void pass_over(int32_t n_groups) {
    for (int32_t group = 0; group < n_groups; group += S::kStageGroups) {
      mbarrier_wait(barriers_.full + ring_.stage * 8, ring_.parity);
      release();
      ring_.next();
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

}  // namespace
}  // namespace flexq
