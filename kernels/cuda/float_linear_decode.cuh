// out = W x for 1 to 8 * kTokenTiles tokens with fp32 activations: bound by reading the weights.
//
// Grid: any number of CTAs of n_warps warps. A CTA makes kBlocks * 16 rows, then the rows a grid
// further; in round r of them its warp w takes the group of columns n_warps * r + w. Every warp
// streams its weights, and their scales, through three buffers of its own, one group each, filled
// by cp.async two rounds ahead: memory is never idle, not even from one set of rows to the next. A
// lane copies what it reads itself, so no barrier guards them. A group is 16 mma.m16n8k8 for every
// 16 rows x 8 tokens; its sums go through shared memory, and one thread per output adds them in
// ascending order:
//     total = fma(group sum, scale of the group, total)
// Dynamic shared memory: DecodeShape::shared_bytes(): buffers, then two rounds of sums and scales.
// n_warps: kLeastWarps to 8; N, K and n_tokens are arbitrary.
#pragma once

#include "kernels/cuda/float_weight_fragments.cuh"

namespace flexq::float_linear {

inline constexpr int kMostDecodeWarps = 8;
inline constexpr int kDecodeBuffers = 3;

template <WeightFormat kFormat, int kTokenTiles>
struct DecodeShape {
  using F = Fragments<kFormat>;
  // Blocks of 16 rows that a warp takes at once: 4 KiB of weights or less.
  static constexpr int kBlocks = F::kGroupBytes <= 2048 && kTokenTiles <= 2 ? 2 : 1;
  static constexpr int kRows = kBlocks * kBlockRows;
  static constexpr int kTokens = kTokenTiles * 8;
  static constexpr int kBlockBytes = F::kGroupBytes + (F::kHasGroupScales ? kBlockRows * 2 : 0);
  static constexpr int kBufferBytes = kBlocks * kBlockBytes;
  // Rows of a token 4 floats apart from a multiple of 16: the 32 lanes that store one register hit
  // 32 banks.
  static constexpr int kTokenStride = kRows + 4;
  static constexpr int kSums = kTokens * kTokenStride;

  static constexpr int kWarpBytes =
      kDecodeBuffers * kBufferBytes + 2 * (kSums + kRows) * static_cast<int>(sizeof(float));
  // Where shared memory is small: sm_75 has 64 KiB.
  static constexpr int kLeastWarps = 4 * kWarpBytes <= 64 * 1024 ? 4 : 2;

  static constexpr size_t shared_bytes(int n_warps) {
    return static_cast<size_t>(n_warps) * kWarpBytes;
  }
};

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

template <WeightFormat kFormat, int kTokenTiles>
__global__ void __launch_bounds__(kMostDecodeWarps * 32, 2)
    float_linear_decode(const LinearArgs args) {
  using F = Fragments<kFormat>;
  using Shape = DecodeShape<kFormat, kTokenTiles>;
  constexpr int kBlocks = Shape::kBlocks;
  constexpr int kRows = Shape::kRows;
  constexpr int kOutputs = Shape::kTokens * kRows;
  constexpr int kOutputsPerThread = (kOutputs - 1) / (Shape::kLeastWarps * 32) + 1;
  extern __shared__ __align__(128) uint8_t decode_shared[];

  const auto n_threads = static_cast<int>(blockDim.x);
  const int n_warps = n_threads / 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint8_t* buffers = decode_shared + warp * (kDecodeBuffers * Shape::kBufferBytes);
  auto* all_sums =
      reinterpret_cast<float*>(decode_shared + n_warps * (kDecodeBuffers * Shape::kBufferBytes));
  float* all_scales = all_sums + 2 * n_warps * Shape::kSums;

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

  // Copies run two rounds ahead of products: what is copied next, and into which buffer.
  int64_t copy_block = int64_t{blockIdx.x} * kBlocks;
  int copy_group = warp;
  int copy_buffer = 0;
  const auto copy = [&] {
    if (copy_block < n_blocks && copy_group < n_groups) {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        const int64_t existing = min(copy_block + i, n_blocks - 1);
        uint8_t* to = buffers + copy_buffer * Shape::kBufferBytes + i * Shape::kBlockBytes;
        F::copy_group(F::source(args, existing, lane), copy_group, stages_of(copy_group), lane, to);
        if constexpr (F::kHasGroupScales) {
          // Two scales a lane.
          if (lane < kBlockRows / 2) {
            float_copy::copy4(to + F::kGroupBytes + lane * 4,
                              unit_scales(args, existing, copy_group) + lane * 2, 4);
          }
        }
      }
    }
    float_copy::commit();
    copy_group += n_warps;
    if (copy_group - warp >= n_groups) {
      copy_group = warp;
      copy_block += block_step;
    }
    copy_buffer = copy_buffer + 1 == kDecodeBuffers ? 0 : copy_buffer + 1;
  };
#pragma unroll
  for (int i = 0; i < kDecodeBuffers - 1; ++i)
    copy();

  float total[kOutputsPerThread] = {};
  int buffer = 0;
  int parity = 0;  // of the round: which half of the sums
  for (int64_t block = int64_t{blockIdx.x} * kBlocks; block < n_blocks; block += block_step) {
    for (int first = 0; first < n_groups; first += n_warps, parity ^= 1) {
      float* sums = all_sums + parity * n_warps * Shape::kSums;
      float* scales = all_scales + parity * n_warps * kRows;
      const int group = first + warp;
      float_copy::wait_group<kDecodeBuffers - 2>();
      // Into the buffer of the round before, which this lane has read.
      copy();
      if (group < n_groups) {
        const int n_stages = stages_of(group);
        const int64_t group_column = int64_t{group} * kGroupSize;
        const bool whole = args.vector_x && group_column + kGroupSize <= args.n_cols;
        const uint8_t* weights = buffers + buffer * Shape::kBufferBytes;
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
              F::read_group_stage(weights + i * Shape::kBlockBytes, stage, lane, words);
              F::unpack(words, row, row8);
#pragma unroll
              for (int j = 0; j < 4; ++j) {
#pragma unroll
                for (int tile = 0; tile < kTokenTiles; ++tile) {
                  mma_m16n8k8(acc[i][tile], row[2 * j], row8[2 * j], row[2 * j + 1],
                              row8[2 * j + 1], b[tile][2 * j], b[tile][2 * j + 1]);
                }
              }
            }
          }
        }
#pragma unroll
        for (int i = 0; i < kBlocks; ++i) {
          if constexpr (F::kHasGroupScales) {
            if (lane < kBlockRows / 2) {
              const auto* halves = reinterpret_cast<const uint16_t*>(
                  weights + i * Shape::kBlockBytes + F::kGroupBytes);
              float* to = scales + warp * kRows + i * kBlockRows + lane * 2;
              to[0] = scale_value(halves[lane * 2], args.scale_multiplier);
              to[1] = scale_value(halves[lane * 2 + 1], args.scale_multiplier);
            }
          }
#pragma unroll
          for (int tile = 0; tile < kTokenTiles; ++tile) {
            float* to = sums + warp * Shape::kSums +
                        (tile * 8 + lane % 4 * 2) * Shape::kTokenStride + i * kBlockRows + lane / 4;
            to[0] = acc[i][tile][0];
            to[Shape::kTokenStride] = acc[i][tile][1];
            to[8] = acc[i][tile][2];
            to[Shape::kTokenStride + 8] = acc[i][tile][3];
          }
        }
      }
      buffer = buffer + 1 == kDecodeBuffers ? 0 : buffer + 1;
      // One barrier a round: the sums of a round are overwritten two rounds later, after the
      // barrier of the round between, which no thread passes before it has added them.
      __syncthreads();
      const bool last_round = first + n_warps >= n_groups;
      const int n_sums = min(n_warps, n_groups - first);
#pragma unroll
      for (int i = 0; i < kOutputsPerThread; ++i) {
        const int output = static_cast<int>(threadIdx.x) + i * n_threads;
        const int row = output % kRows;
        const int token = output / kRows;
        if (output >= kOutputs || token >= args.n_tokens) continue;
        const float* sum = sums + token * Shape::kTokenStride + row;
#pragma unroll
        for (int w = 0; w < kMostDecodeWarps; ++w) {
          if (w < n_sums) {
            const float scale = F::kHasGroupScales ? scales[w * kRows + row] : 1.0f;
            total[i] = __fmaf_rn(sum[w * Shape::kSums], scale, total[i]);
          }
        }
        if (last_round) {
          const int64_t out_row = block * kBlockRows + row;
          if (out_row < args.n_rows) store_sum<kFormat>(args, out_row, token, total[i]);
          total[i] = 0.0f;
        }
      }
    }
  }
}

}  // namespace flexq::float_linear
