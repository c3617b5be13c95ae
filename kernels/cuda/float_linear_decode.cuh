// out = W x for 1 to 8 * kTokenTiles tokens with fp32 activations: bound by reading the weights.
//
// Grid: any number of CTAs, 256 threads = 8 warps. A CTA makes kBlocks * 16 rows, then the rows a
// grid further; in round r of them its warp w takes the group of columns 8r + w. Weights come
// straight from global memory into registers, those of a warp's next group while it multiplies the
// ones before: memory is never idle, not even from one set of rows to the next. A group is 16
// mma.m16n8k8 for every 16 rows x 8 tokens; its sums go through shared memory, and one thread per
// output adds them in ascending order:
//     total = fma(group sum, scale of the group, total)
// Shared memory: static, two rounds of group sums. N, K and n_tokens are arbitrary.
#pragma once

#include "kernels/cuda/float_weight_fragments.cuh"

namespace flexq::float_linear {

inline constexpr int kDecodeWarps = 8;
inline constexpr int kDecodeThreads = kDecodeWarps * 32;

// Blocks of 16 rows that a warp takes at once: about 32 registers of weights.
template <WeightFormat kFormat, int kTokenTiles>
inline constexpr int kDecodeBlocks =
    Fragments<kFormat>::kGroupWords <= 16 && kTokenTiles <= 2 ? 2 : 1;
// CTAs per multiprocessor.
template <WeightFormat kFormat>
inline constexpr int kDecodeCtas = Fragments<kFormat>::kGroupWords > 32 ? 1 : 2;

// 8 activations of a token from `column` on, rounded to TF32. `whole`: the group ends before K and
// 16-byte loads may be used; else zeros past K.
__device__ inline void load_activations(const LinearArgs& args, const float* row, int64_t column,
                                        bool whole, uint32_t (&b)[8]) {
  float v[8];
  if (whole) {
    const float4 first = *reinterpret_cast<const float4*>(row + column);
    const float4 second = *reinterpret_cast<const float4*>(row + column + 4);
    v[0] = first.x, v[1] = first.y, v[2] = first.z, v[3] = first.w;
    v[4] = second.x, v[5] = second.y, v[6] = second.z, v[7] = second.w;
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      v[i] = column + i < args.n_cols ? row[column + i] : 0.0f;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    b[i] = to_tf32(v[i]);
}

// The weights of one group for one warp.
template <WeightFormat kFormat, int kBlocks>
struct HeldGroup {
  uint32_t raw[kBlocks][Fragments<kFormat>::kGroupWords];
  uint16_t scale_bits[kBlocks];  // of row `lane` of each block, in the first 16 lanes
};

template <WeightFormat kFormat, int kTokenTiles>
__global__ void __launch_bounds__(kDecodeThreads, kDecodeCtas<kFormat>)
    float_linear_decode(const LinearArgs args) {
  using F = Fragments<kFormat>;
  constexpr int kBlocks = kDecodeBlocks<kFormat, kTokenTiles>;
  using Held = HeldGroup<kFormat, kBlocks>;
  // Rows of a token 4 floats apart from a multiple of 16: the 32 lanes that store one register hit
  // 32 banks.
  constexpr int kRows = kBlocks * kBlockRows;
  constexpr int kTokenStride = kRows + 4;
  constexpr int kTokens = kTokenTiles * 8;
  constexpr int kOutputs = kTokens * kRows;
  constexpr int kOutputsPerThread = (kOutputs + kDecodeThreads - 1) / kDecodeThreads;
  __shared__ float group_sums[2][kDecodeWarps][kTokens * kTokenStride];
  __shared__ float group_scales[2][kDecodeWarps][kRows];

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto n_groups = static_cast<int>(n_groups_of(args));
  const int64_t n_blocks = (args.n_rows + kBlockRows - 1) / kBlockRows;
  const int64_t block_step = int64_t{gridDim.x} * kBlocks;

  // Absent tokens stand for the last one: their columns of the product are not stored.
  const float* x[kTokenTiles];
#pragma unroll
  for (int tile = 0; tile < kTokenTiles; ++tile)
    x[tile] = args.x + min(int64_t{tile * 8 + lane / 4}, args.n_tokens - 1) * args.x_stride;

  const auto stages_of = [&](int group) {
    return min(kGroupStages, args.n_stages - group * kGroupStages);
  };
  const auto load = [&](int64_t block, int group, Held& held) {
    if (block >= n_blocks || group >= n_groups) return;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const int64_t existing = min(block + i, n_blocks - 1);
      F::load_group(args, existing, group, stages_of(group), lane, held.raw[i]);
      held.scale_bits[i] =
          lane < kBlockRows ? F::group_scale_bits(args, existing, group, lane) : uint16_t{0};
    }
  };

  int64_t block = int64_t{blockIdx.x} * kBlocks;
  int first = 0;  // group of warp 0 in this round
  int parity = 0;
  float total[kOutputsPerThread] = {};

  // Multiplies `held` and loads what comes after it into `next`.
  const auto round = [&](Held& held, Held& next) {
    const bool last_round = first + kDecodeWarps >= n_groups;
    const int64_t next_block = last_round ? block + block_step : block;
    const int next_first = last_round ? 0 : first + kDecodeWarps;
    load(next_block, next_first + warp, next);

    float(&sums)[kDecodeWarps][kTokens * kTokenStride] = group_sums[parity];
    float(&scales)[kDecodeWarps][kRows] = group_scales[parity];
    const int group = first + warp;
    if (group < n_groups) {
      const int n_stages = stages_of(group);
      const int64_t group_column = int64_t{group} * kGroupSize;
      const bool whole = args.vector_x && group_column + kGroupSize <= args.n_cols;
      float acc[kBlocks][kTokenTiles][4] = {};
#pragma unroll
      for (int stage = 0; stage < kGroupStages; ++stage) {
        if (stage < n_stages) {
          const int64_t column = group_column + run_column<F::kLaneColumns>(lane % 4, stage);
          uint32_t b[kTokenTiles][8];
#pragma unroll
          for (int tile = 0; tile < kTokenTiles; ++tile)
            load_activations(args, x[tile], column, whole, b[tile]);
#pragma unroll
          for (int i = 0; i < kBlocks; ++i) {
            uint32_t words[F::kStageWords];
            uint32_t row[8];
            uint32_t row8[8];
            F::group_stage(held.raw[i], stage, words);
            F::unpack(words, row, row8);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
#pragma unroll
              for (int tile = 0; tile < kTokenTiles; ++tile) {
                mma_m16n8k8(acc[i][tile], row[2 * j], row8[2 * j], row[2 * j + 1], row8[2 * j + 1],
                            b[tile][2 * j], b[tile][2 * j + 1]);
              }
            }
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        if (lane < kBlockRows) {
          scales[warp][i * kBlockRows + lane] =
              scale_value(held.scale_bits[i], args.scale_multiplier);
        }
#pragma unroll
        for (int tile = 0; tile < kTokenTiles; ++tile) {
          float* to =
              &sums[warp][(tile * 8 + lane % 4 * 2) * kTokenStride + i * kBlockRows + lane / 4];
          to[0] = acc[i][tile][0];
          to[kTokenStride] = acc[i][tile][1];
          to[8] = acc[i][tile][2];
          to[kTokenStride + 8] = acc[i][tile][3];
        }
      }
    }
    // One barrier a round: the sums of a round are overwritten two rounds later, after the barrier
    // of the round between, which no thread passes before it has added them.
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kOutputsPerThread; ++i) {
      const int output = static_cast<int>(threadIdx.x) + i * kDecodeThreads;
      const int row = output % kRows;
      const int token = output / kRows;
      if (output >= kOutputs || token >= args.n_tokens) continue;
#pragma unroll
      for (int w = 0; w < kDecodeWarps; ++w) {
        if (first + w < n_groups)
          total[i] = __fmaf_rn(sums[w][token * kTokenStride + row], scales[w][row], total[i]);
      }
      if (last_round) {
        const int64_t out_row = block * kBlockRows + row;
        if (out_row < args.n_rows) store_sum<kFormat>(args, out_row, token, total[i]);
        total[i] = 0.0f;
      }
    }
    block = next_block;
    first = next_first;
    parity ^= 1;
  };

  Held a;
  Held b;
  load(block, warp, a);
  while (block < n_blocks) {
    round(a, b);
    if (block >= n_blocks) break;
    round(b, a);
  }
}

}  // namespace flexq::float_linear
