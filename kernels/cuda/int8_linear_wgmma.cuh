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
// copied nor stored; their products are of whatever shared memory holds. A warpgroup without any
// unit passes an item over.
#pragma once

#include "kernels/cuda/wgmma_copy.cuh"
#include "kernels/cuda/wgmma_int8.cuh"
#include "kernels/cuda/wgmma_multiply.cuh"
#include "kernels/cuda/wgmma_stages.cuh"
#include "kernels/cuda/wgmma_store.cuh"

namespace flexq {
namespace {

template <typename S>
__device__ void multiply_items(const WgmmaArgs& args, uint8_t* shared, int32_t warp) {
  const int32_t unit_index = warp - kCopyThreads / 32;
  // Of the warpgroup. Through a shuffle, which tells the compiler that all lanes agree: it would
  // else take the loops for divergent and keep descriptors in the registers of every lane.
  const int32_t first_unit = __shfl_sync(0xffffffffu, unit_index / 4 * 4, 0);
  Multiplier<S> multiplier(shared, unit_index);
  Accumulators<S> acc;
#pragma unroll
  for (int i = 0; i < S::kStepValues; ++i) {
    acc.dots[i] = 0;
  }
  for (WgmmaItems<S> items(args); items.more(); items.next()) {
    const WgmmaItem item = items.item();
    if (S::kWarpgroups > 1 && !unit_of<S>(args, item, first_unit).exists) {
      multiplier.pass_over(args.n_groups);
      continue;
    }
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
