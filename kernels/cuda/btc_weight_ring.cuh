// The ring of a warp: pieces of weights on their way from global to shared memory, oldest first.
// sm_90 and newer: bulk copies that complete on an mbarrier; sm_80: cp.async of every lane that
// arrive on it; sm_75: plain loads, a piece is there when fill() returns.
#pragma once

#include <cstdint>

#include "kernels/cuda/btc_tiling.h"

namespace flexq::btc {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define FLEXQ_BTC_BULK_COPY 1
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define FLEXQ_BTC_ASYNC_COPY 1
#endif

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

#if defined(FLEXQ_BTC_BULK_COPY) || defined(FLEXQ_BTC_ASYNC_COPY)
__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}
#endif

#if defined(FLEXQ_BTC_BULK_COPY)

// Makes the barrier's initial state visible to the copies that will complete on it.
__device__ __forceinline__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}

__device__ __forceinline__ bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(done)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
  return done != 0;
}

// Weights are read once: they should not push activations out of the L2 cache.
__device__ __forceinline__ uint64_t evict_first_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ void bulk_copy(void* shared, const uint8_t* global, uint32_t bytes,
                                          uint64_t* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
}

#elif defined(FLEXQ_BTC_ASYNC_COPY)

__device__ __forceinline__ bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(done)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
  return done != 0;
}

__device__ __forceinline__ void copy_16(void* shared, const uint8_t* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
               "l"(global)
               : "memory");
}

// Arrives when this lane's copies so far have landed.
__device__ __forceinline__ void mbarrier_arrive_copies(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

#else

__device__ __forceinline__ void copy_16(void* shared, const uint8_t* global) {
  *static_cast<uint4*>(shared) = *reinterpret_cast<const uint4*>(global);
}

#endif

class WeightRing {
 public:
  // weights, scales, barriers: this warp's part of SharedMap. All lanes call everything.
  __device__ WeightRing(uint8_t* weights, uint8_t* scales, uint64_t* barriers, int32_t n_stages)
      : weights_(weights), scales_(scales), barriers_(barriers), n_stages_(n_stages) {
    lane_ = static_cast<int32_t>(threadIdx.x) % 32;
#if defined(FLEXQ_BTC_BULK_COPY)
    if (lane_ < n_stages) mbarrier_init(&barriers[lane_], 1);
    mbarrier_init_fence();
#elif defined(FLEXQ_BTC_ASYNC_COPY)
    if (lane_ < n_stages) mbarrier_init(&barriers[lane_], 32);
#endif
    __syncwarp();
  }

  // Queues n_units consecutive units, 1 .. kPieceUnits, into a stage that nobody reads.
  __device__ void fill(int32_t stage, const uint8_t* weights, const uint8_t* scales,
                       int32_t n_units) {
    uint8_t* const to = weights_ + stage * kStageBytes;
    uint8_t* const to_scales = scales_ + stage * kStageScaleBytes;
    const int32_t bytes = n_units * static_cast<int32_t>(cuda_btc::kUnitBytes);
    const int32_t scale_bytes = n_units * static_cast<int32_t>(cuda_btc::kUnitScaleBytes);
#if defined(FLEXQ_BTC_BULK_COPY)
    if (lane_ == 0) {
      const uint64_t policy = evict_first_policy();
      mbarrier_arrive_expect(&barriers_[stage], static_cast<uint32_t>(bytes + scale_bytes));
      bulk_copy(to, weights, static_cast<uint32_t>(bytes), &barriers_[stage], policy);
      bulk_copy(to_scales, scales, static_cast<uint32_t>(scale_bytes), &barriers_[stage], policy);
    }
#else
    for (int32_t i = lane_ * 16; i < bytes; i += 512)
      copy_16(to + i, weights + i);
    if (lane_ * 16 < scale_bytes) copy_16(to_scales + lane_ * 16, scales + lane_ * 16);
#if defined(FLEXQ_BTC_ASYNC_COPY)
    mbarrier_arrive_copies(&barriers_[stage]);
#endif
#endif
  }

  // The oldest piece: its stage, and, once waited for, its units.
  __device__ int32_t stage() const {
    return stage_;
  }
  __device__ void wait() {
#if defined(FLEXQ_BTC_BULK_COPY) || defined(FLEXQ_BTC_ASYNC_COPY)
    while (!mbarrier_try_wait(&barriers_[stage_], parity_)) {
    }
#else
    __syncwarp();
#endif
  }
  __device__ const uint8_t* weights() const {
    return weights_ + stage_ * kStageBytes;
  }
  __device__ const uint8_t* scales() const {
    return scales_ + stage_ * kStageScaleBytes;
  }

  // On to the next piece.
  __device__ void advance() {
    if (++stage_ == n_stages_) {
      stage_ = 0;
      parity_ ^= 1;
    }
  }

 private:
  static constexpr int32_t kStageBytes = kPieceUnits * static_cast<int32_t>(cuda_btc::kUnitBytes);
  static constexpr int32_t kStageScaleBytes =
      kPieceUnits * static_cast<int32_t>(cuda_btc::kUnitScaleBytes);

  uint8_t* weights_;
  uint8_t* scales_;
  uint64_t* barriers_;
  int32_t n_stages_;
  int32_t lane_;
  int32_t stage_ = 0;
  uint32_t parity_ = 0;
};

#undef FLEXQ_BTC_BULK_COPY
#undef FLEXQ_BTC_ASYNC_COPY

}  // namespace flexq::btc
