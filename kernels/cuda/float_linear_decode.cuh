// out = W x for 1 to 8 * kTokenTiles tokens with fp32 activations: bound by reading the weights.
//
// Grid: any number of CTAs of n_warps warps. A CTA makes kBlocks * 16 rows, then the rows a grid
// further; in round r of them its warp w takes the group of columns n_warps * r + w: weights, their
// scales and the activations of these columns come by cp.async into two buffers of the warp's own.
// As soon as half a group is multiplied, its place takes half of the group two rounds later, so
// that memory is never idle, not even from one set of rows to the next, and nothing else is loaded
// on the way: a load from the cache would wait for the weights before it. A group is 16 mma.m16n8k8
// for every 16 rows x 8 tokens; its sums go through shared memory, and one thread per output adds
// them in ascending order:
//     total = fma(group sum, scale of the group, total)
// Dynamic shared memory: DecodeShape::shared_bytes(): buffers, then two rounds of sums and scales.
// n_warps: kLeastWarps to 8; N, K and n_tokens are arbitrary.
#pragma once

#include "kernels/cuda/float_weight_fragments.cuh"

namespace flexq::float_linear {

inline constexpr int kMostDecodeWarps = 8;
inline constexpr int kDecodeBuffers = 2;

// Activations of a token in a buffer: 4 stages of (2 halves of a run, 4 lanes, 4 floats), and 64
// bytes that put the next token into the other half of the banks.
inline constexpr int kTokenGroupBytes = kGroupSize * 4 + 64;

template <WeightFormat kFormat, int kTokenTiles>
struct DecodeShape {
  using F = Fragments<kFormat>;
  static constexpr int kLeastWarps = 2;
  // Blocks of 16 rows that a warp takes at once: 4 KiB of weights or less.
  static constexpr int kBlocks = F::kGroupBytes <= 2048 ? 2 : 1;
  static constexpr int kRows = kBlocks * kBlockRows;
  static constexpr int kTokens = kTokenTiles * 8;
  static constexpr int kBlockBytes = F::kGroupBytes + (F::kHasGroupScales ? kBlockRows * 2 : 0);
  // Rows of a token 4 floats apart from a multiple of 16: the 32 lanes that store one register hit
  // 32 banks.
  static constexpr int kTokenStride = kRows + 4;
  static constexpr int kSums = kTokens * kTokenStride;

  __host__ __device__ static constexpr int buffer_bytes(int n_tokens) {
    return kBlocks * kBlockBytes + n_tokens * kTokenGroupBytes;
  }
  static constexpr size_t shared_bytes(int n_warps, int n_tokens) {
    const int warp_bytes = kDecodeBuffers * buffer_bytes(n_tokens) +
                           2 * (kSums + kRows) * static_cast<int>(sizeof(float));
    return static_cast<size_t>(n_warps) * static_cast<size_t>(warp_bytes);
  }
};

// The activations of one group as a lane copies and reads them: lane (g, t) has run t of token g of
// each tile, absent tokens stand for the last one and are not copied.
template <int kTokenTiles, int kLaneColumns>
struct TokenRuns {
  const float* row[kTokenTiles];  // at the lane's first run
  int offset[kTokenTiles];        // in a buffer
  bool there[kTokenTiles];

  __device__ TokenRuns(const LinearArgs& args, int lane) {
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
      const int token = tile * 8 + lane / 4;
      there[tile] = token < args.n_tokens;
      const int existing = min(token, static_cast<int>(args.n_tokens) - 1);
      row[tile] = args.x + existing * args.x_stride + lane % 4 * kLaneColumns;
      offset[tile] = existing * kTokenGroupBytes + lane % 4 * 16;
    }
  }

  // Stages 2 * half and 2 * half + 1; zeros past K.
  __device__ void copy_half(const LinearArgs& args, int group, int half, int lane,
                            uint8_t* shared) const {
    const int64_t column = int64_t{group} * kGroupSize;
    const bool whole = args.vector_x && column + kGroupSize <= args.n_cols;
    const int64_t n_left = args.n_cols - column - lane % 4 * kLaneColumns;
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
      if (!there[tile]) continue;
#pragma unroll
      for (int i = half * 4; i < half * 4 + 4; ++i) {
        const int at = run_column<kLaneColumns>(0, i / 2) + i % 2 * 4;
        const float* from = row[tile] + column + at;
        uint8_t* to = shared + offset[tile] + i * 64;
        if (whole) {
          float_copy::copy16(to, from, 16);
          continue;
        }
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const bool element = at + k < n_left;
          float_copy::copy4(to + k * 4, element ? from + k : args.x, element ? 4 : 0);
        }
      }
    }
  }

  __device__ void read_stage(const uint8_t* shared, int stage,
                             uint32_t (&b)[kTokenTiles][8]) const {
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float4 v =
            *reinterpret_cast<const float4*>(shared + offset[tile] + stage * 128 + half * 64);
        b[tile][half * 4] = to_tf32(v.x);
        b[tile][half * 4 + 1] = to_tf32(v.y);
        b[tile][half * 4 + 2] = to_tf32(v.z);
        b[tile][half * 4 + 3] = to_tf32(v.w);
      }
    }
  }
};

template <WeightFormat kFormat, int kTokenTiles>
__global__ void __launch_bounds__(kMostDecodeWarps * 32, 2)
    float_linear_decode(const LinearArgs args) {
  using F = Fragments<kFormat>;
  using Shape = DecodeShape<kFormat, kTokenTiles>;
  constexpr int kBlocks = Shape::kBlocks;
  constexpr int kRows = Shape::kRows;
  constexpr int kOutputs = Shape::kTokens * kRows;
  constexpr int kOutputsPerThread = (kOutputs - 1) / (Shape::kLeastWarps * 32) + 1;
  // Halves on their way while one is waited for: three, or two where it needs the half after it.
  constexpr int kPending = F::kHalvesApart ? 3 : 2;
  extern __shared__ __align__(128) uint8_t decode_shared[];

  const auto n_threads = static_cast<int>(blockDim.x);
  const int n_warps = n_threads / 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int buffer_bytes = Shape::buffer_bytes(static_cast<int>(args.n_tokens));
  uint8_t* buffers = decode_shared + warp * (kDecodeBuffers * buffer_bytes);
  auto* all_sums =
      reinterpret_cast<float*>(decode_shared + n_warps * (kDecodeBuffers * buffer_bytes));
  float* all_scales = all_sums + 2 * n_warps * Shape::kSums;

  const auto n_groups = static_cast<int>(n_groups_of(args));
  const int64_t n_blocks = (args.n_rows + kBlockRows - 1) / kBlockRows;
  const int64_t block_step = int64_t{gridDim.x} * kBlocks;
  const auto halves_of = [&](int group) {
    return min(2, (args.n_stages - group * kGroupStages) / 2);
  };
  const TokenRuns<kTokenTiles, F::kLaneColumns> tokens(args, lane);

  // What is copied next: two rounds ahead of what is multiplied, into the same buffer.
  int64_t copy_block = int64_t{blockIdx.x} * kBlocks;
  int copy_group = warp;
  typename F::Source sources[kBlocks];
  const auto find_sources = [&] {
#pragma unroll
    for (int i = 0; i < kBlocks; ++i)
      sources[i] = F::source(args, min(copy_block + i, n_blocks - 1), lane);
  };
  find_sources();
  const auto copy_half = [&](int half, uint8_t* buffer) {
    if (copy_block < n_blocks && copy_group < n_groups && half < halves_of(copy_group)) {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        uint8_t* to = buffer + i * Shape::kBlockBytes;
        F::copy_half(sources[i], copy_group, half, lane, to);
        if constexpr (F::kHasGroupScales) {
          // Two scales a lane.
          const int64_t existing = min(copy_block + i, n_blocks - 1);
          if (half == 1 && lane < kBlockRows / 2) {
            float_copy::copy4(to + F::kGroupBytes + lane * 4,
                              unit_scales(args, existing, copy_group) + lane * 2, 4);
          }
        }
      }
      tokens.copy_half(args, copy_group, half, lane, buffer + kBlocks * Shape::kBlockBytes);
    }
    float_copy::commit();
  };
  const auto advance_copy = [&] {
    copy_group += n_warps;
    if (copy_group - warp >= n_groups) {
      copy_group = warp;
      copy_block += block_step;
      find_sources();
    }
  };
#pragma unroll
  for (int i = 0; i < kDecodeBuffers; ++i) {
    copy_half(0, buffers + i * buffer_bytes);
    copy_half(1, buffers + i * buffer_bytes);
    advance_copy();
  }

  float total[kOutputsPerThread] = {};
  int parity = 0;  // of the round: which buffer, which half of the sums
  for (int64_t block = int64_t{blockIdx.x} * kBlocks; block < n_blocks; block += block_step) {
    for (int first = 0; first < n_groups; first += n_warps, parity ^= 1) {
      float* sums = all_sums + (parity * n_warps + warp) * Shape::kSums;
      float* scales = all_scales + (parity * n_warps + warp) * kRows;
      uint8_t* buffer = buffers + parity * buffer_bytes;
      const int group = first + warp;
      const int n_halves = group < n_groups ? halves_of(group) : 0;
      float acc[kBlocks][kTokenTiles][4] = {};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float_copy::wait_group<kPending>();
        __syncwarp();
        if (half < n_halves) {
#pragma unroll
          for (int stage = half * 2; stage < half * 2 + 2; ++stage) {
            uint32_t b[kTokenTiles][8];
            tokens.read_stage(buffer + kBlocks * Shape::kBlockBytes, stage, b);
#pragma unroll
            for (int i = 0; i < kBlocks; ++i) {
              uint32_t words[F::kStageWords];
              uint32_t row[8];
              uint32_t row8[8];
              F::read_half_stage(buffer + i * Shape::kBlockBytes, stage, lane, words);
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
          if constexpr (F::kHasGroupScales) {
            if (half == 1 && lane < kBlockRows / 2) {
#pragma unroll
              for (int i = 0; i < kBlocks; ++i) {
                const auto* halves = reinterpret_cast<const uint16_t*>(
                    buffer + i * Shape::kBlockBytes + F::kGroupBytes);
                float* to = scales + i * kBlockRows + lane * 2;
                to[0] = scale_value(halves[lane * 2], args.scale_multiplier);
                to[1] = scale_value(halves[lane * 2 + 1], args.scale_multiplier);
              }
            }
          }
        }
        __syncwarp();
        copy_half(half, buffer);
      }
      advance_copy();
      if (n_halves > 0) {
#pragma unroll
        for (int i = 0; i < kBlocks; ++i) {
#pragma unroll
          for (int tile = 0; tile < kTokenTiles; ++tile) {
            float* to =
                sums + (tile * 8 + lane % 4 * 2) * Shape::kTokenStride + i * kBlockRows + lane / 4;
            to[0] = acc[i][tile][0];
            to[Shape::kTokenStride] = acc[i][tile][1];
            to[8] = acc[i][tile][2];
            to[Shape::kTokenStride + 8] = acc[i][tile][3];
          }
        }
      }
      // One barrier a round: the sums of a round are overwritten two rounds later, after the
      // barrier of the round between, which no thread passes before it has added them.
      __syncthreads();
      const bool last_round = first + n_warps >= n_groups;
      const int n_sums = min(n_warps, n_groups - first);
      const float* round_sums = all_sums + parity * n_warps * Shape::kSums;
      const float* round_scales = all_scales + parity * n_warps * kRows;
#pragma unroll
      for (int i = 0; i < kOutputsPerThread; ++i) {
        const int output = static_cast<int>(threadIdx.x) + i * n_threads;
        const int row = output % kRows;
        const int token = output / kRows;
        if (output >= kOutputs || token >= args.n_tokens) continue;
#pragma unroll
        for (int w = 0; w < kMostDecodeWarps; ++w) {
          if (w < n_sums) {
            const float scale = F::kHasGroupScales ? round_scales[w * kRows + row] : 1.0f;
            total[i] = __fmaf_rn(round_sums[w * Shape::kSums + token * Shape::kTokenStride + row],
                                 scale, total[i]);
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
