// What the CTAs of a cluster do together: sm_90, nothing elsewhere.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace flexq {

__device__ inline int32_t cluster_rank() {
#if __CUDA_ARCH__ >= 900
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int32_t>(rank);
#else
  return 0;
#endif
}

// All threads of the cluster meet, in two steps, by whole warps.
__device__ inline void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ inline void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
__device__ inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

// One arrival at the barrier that a CTA of the cluster has where this one has `barrier`.
__device__ inline void mbarrier_arrive_at(uint32_t barrier, int32_t cta) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}" ::"r"(barrier),
      "r"(cta)
      : "memory");
#endif
}

// Writes to where a CTA of the cluster has what this one has at `shared`, and tells its barrier of
// the 4 bytes. That CTA has begun and must not end before they are there.
__device__ inline void store_shared_at(uint32_t shared, float value, uint32_t barrier,
                                       int32_t cta) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      ".reg .b32 there, its_barrier;\n"
      "mapa.shared::cluster.u32 there, %0, %3;\n"
      "mapa.shared::cluster.u32 its_barrier, %2, %3;\n"
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [there], %1, [its_barrier];\n"
      "}" ::"r"(shared),
      "r"(__float_as_uint(value)), "r"(barrier), "r"(cta)
      : "memory");
#endif
}

// What a CTA of the cluster has in its shared memory where this one has `own`. That CTA must not
// have ended.
__device__ inline float load_shared_of(const float* own, int32_t cta) {
  float value = 0;
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %1, %2;\n"
      "ld.shared::cluster.f32 %0, [there];\n"
      "}"
      : "=f"(value)
      : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(own))), "r"(cta)
      : "memory");
#endif
  return value;
}

}  // namespace flexq
