// out = W x for 1 to 8 * kTokenTiles tokens with fp32 activations: bound by reading the weights.
//
// Grid: (ceil(N / 16)), 256 threads = 8 warps. A CTA makes 16 rows; in round r its warp w takes the
// group of columns 8r + w straight from global memory into registers, makes the 16 mma.m16n8k8 of
// that group for every tile of 8 tokens, leaves the group's sums in shared memory and starts the
// loads of its next group; then one thread per output adds the round's groups in ascending order:
//     total = fma(group sum, scale of the group, total)
// Shared memory: static, two rounds of group sums. N, K and n_tokens are arbitrary.
#pragma once

#include "kernels/cuda/float_weight_fragments.cuh"

namespace flexq::float_linear {

inline constexpr int kDecodeWarps = 8;
inline constexpr int kDecodeThreads = kDecodeWarps * 32;

// 8 activations of a token from `column` on, rounded to TF32; zeros past K.
__device__ inline void load_activations(const LinearArgs& args, int64_t token, int64_t column,
                                        uint32_t (&b)[8]) {
  if (token >= args.n_tokens) {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      b[i] = 0;
    return;
  }
  const float* x = args.x + token * args.x_stride + column;
  float v[8];
  if (args.vector_x && column + 8 <= args.n_cols) {
    const float4 first = *reinterpret_cast<const float4*>(x);
    const float4 second = *reinterpret_cast<const float4*>(x + 4);
    v[0] = first.x, v[1] = first.y, v[2] = first.z, v[3] = first.w;
    v[4] = second.x, v[5] = second.y, v[6] = second.z, v[7] = second.w;
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      v[i] = column + i < args.n_cols ? x[i] : 0.0f;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    b[i] = to_tf32(v[i]);
}

template <WeightFormat kFormat, int kTokenTiles>
__global__ void __launch_bounds__(kDecodeThreads) float_linear_decode(const LinearArgs args) {
  using F = Fragments<kFormat>;
  // Rows of a token 20 floats apart: the 32 lanes that store one register hit 32 banks.
  constexpr int kTokenStride = 20;
  constexpr int kTokens = kTokenTiles * 8;
  constexpr int kOutputs = kTokens * kBlockRows;
  constexpr int kOutputsPerThread = (kOutputs + kDecodeThreads - 1) / kDecodeThreads;
  __shared__ float group_sums[2][kDecodeWarps][kTokens * kTokenStride];
  __shared__ float group_scales[2][kDecodeWarps][kBlockRows];

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t block = blockIdx.x;
  const auto n_groups = static_cast<int>(n_groups_of(args));
  const auto stages_of = [&](int group) {
    return min(kGroupStages, args.n_stages - group * kGroupStages);
  };

  uint32_t raw[F::kGroupWords];
  uint16_t scale_bits = 0;
  const auto load = [&](int group) {
    if (group >= n_groups) return;
    F::load_group(args, block, group, stages_of(group), lane, raw);
    if (lane < kBlockRows) scale_bits = F::group_scale_bits(args, block, group, lane);
  };
  load(warp);

  float total[kOutputsPerThread] = {};
  for (int first = 0, round = 0; first < n_groups; first += kDecodeWarps, ++round) {
    float(&sums)[kDecodeWarps][kTokens * kTokenStride] = group_sums[round % 2];
    float(&scales)[kDecodeWarps][kBlockRows] = group_scales[round % 2];
    const int group = first + warp;
    if (group < n_groups) {
      const int n_stages = stages_of(group);
      float acc[kTokenTiles][4] = {};
#pragma unroll
      for (int stage = 0; stage < kGroupStages; ++stage) {
        if (stage < n_stages) {
          uint32_t words[F::kStageWords];
          uint32_t row[8];
          uint32_t row8[8];
          F::group_stage(raw, stage, words);
          F::unpack(words, row, row8);
          const int64_t column =
              int64_t{group} * kGroupSize + run_column<F::kLaneColumns>(lane % 4, stage);
#pragma unroll
          for (int tile = 0; tile < kTokenTiles; ++tile) {
            uint32_t b[8];
            load_activations(args, tile * 8 + lane / 4, column, b);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
              mma_m16n8k8(acc[tile], row[2 * j], row8[2 * j], row[2 * j + 1], row8[2 * j + 1],
                          b[2 * j], b[2 * j + 1]);
            }
          }
        }
      }
      if (lane < kBlockRows) scales[warp][lane] = scale_value(scale_bits, args.scale_multiplier);
      load(group + kDecodeWarps);
#pragma unroll
      for (int tile = 0; tile < kTokenTiles; ++tile) {
        float* to = &sums[warp][(tile * 8 + lane % 4 * 2) * kTokenStride + lane / 4];
        to[0] = acc[tile][0];
        to[kTokenStride] = acc[tile][1];
        to[8] = acc[tile][2];
        to[kTokenStride + 8] = acc[tile][3];
      }
    }
    // One barrier a round: the sums of round r are overwritten in round r + 2, after the barrier of
    // round r + 1, which no thread passes before it has added those of round r.
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kOutputsPerThread; ++i) {
      const int output = static_cast<int>(threadIdx.x) + i * kDecodeThreads;
      if (output >= kOutputs) break;
      const int row = output % kBlockRows;
      const int token = output / kBlockRows;
#pragma unroll
      for (int w = 0; w < kDecodeWarps; ++w) {
        if (first + w < n_groups)
          total[i] = __fmaf_rn(sums[w][token * kTokenStride + row], scales[w][row], total[i]);
      }
    }
  }

#pragma unroll
  for (int i = 0; i < kOutputsPerThread; ++i) {
    const int output = static_cast<int>(threadIdx.x) + i * kDecodeThreads;
    const int64_t row = block * kBlockRows + output % kBlockRows;
    const int64_t token = output / kBlockRows;
    if (output < kOutputs && row < args.n_rows && token < args.n_tokens)
      store_sum<kFormat>(args, row, token, total[i]);
  }
}

}  // namespace flexq::float_linear
