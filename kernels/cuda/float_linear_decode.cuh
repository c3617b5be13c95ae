// out = W x for 1 to 8 tokens with fp32 activations: bound by reading the weights.
//
// Grid: any number of CTAs of n_warps warps. The activations of all columns, rounded to TF32, lie
// in shared memory from the start. A CTA makes kBlocks * 16 rows, then the rows a grid further; in
// round r of them its warp w takes the group of columns n_warps * r + w, weights and scales of
// which come by cp.async into two buffers of the warp's own. As soon as half a group is multiplied,
// its place takes half of the group two rounds later, so that memory is never idle, not even from
// one set of rows to the next, and nothing else is loaded on the way. A group is 16 mma.m16n8k8 for
// every 16 rows; its sums go through shared memory, and one thread per output adds them in
// ascending order:
//     total = fma(group sum, scale of the group, total)
// Dynamic shared memory: DecodeShape::shared_bytes(): buffers, two rounds of sums and scales,
// activations. n_warps: kLeastWarps to 8; N, K and n_tokens are arbitrary as long as they fit.
#pragma once

#include "kernels/cuda/float_weight_fragments.cuh"
#include "kernels/cuda/programmatic_launch.cuh"

namespace flexq::float_linear {

inline constexpr int kMostDecodeWarps = 8;
inline constexpr int kDecodeBuffers = 2;
inline constexpr int kDecodeTokens = 8;  // the n of one mma

// Activations of a token: groups of 4 stages of (2 halves of a run, 4 lanes, 4 floats), and 64
// bytes that put the next token into the other half of the banks.
__host__ __device__ constexpr int64_t token_bytes(int64_t n_groups) {
  return n_groups * (kGroupSize * 4) + 64;
}

template <WeightFormat kFormat>
struct DecodeShape {
  using F = Fragments<kFormat>;
  static constexpr int kLeastWarps = 2;
  // Blocks of 16 rows that a warp takes at once: 4 KiB of weights or less.
  static constexpr int kBlocks = F::kGroupBytes <= 2048 ? 2 : 1;
  static constexpr int kRows = kBlocks * kBlockRows;
  static constexpr int kBlockBytes = F::kGroupBytes + (F::kHasGroupScales ? kBlockRows * 2 : 0);
  // Rows of a token 4 floats apart from a multiple of 16: the 32 lanes that store one register hit
  // 32 banks.
  static constexpr int kTokenStride = kRows + 4;
  static constexpr int kSums = kDecodeTokens * kTokenStride;

  static constexpr int kBufferBytes = kBlocks * kBlockBytes;

  static constexpr int64_t shared_bytes(int64_t n_warps, int64_t n_tokens, int64_t n_groups) {
    const int64_t warp_bytes =
        kDecodeBuffers * kBufferBytes + 2 * (kSums + kRows) * static_cast<int64_t>(sizeof(float));
    return n_warps * warp_bytes + n_tokens * token_bytes(n_groups);
  }
};

// All activations to shared memory, by all threads; zeros past K.
template <int kLaneColumns>
__device__ inline void store_activations(const LinearArgs& args, uint8_t* shared) {
  const auto n_groups = static_cast<int>(n_groups_of(args));
  const int n_pieces = n_groups * (kGroupSize / 4);
  for (int token = 0; token < args.n_tokens; ++token) {
    const float* x = args.x + token * args.x_stride;
    for (int piece = static_cast<int>(threadIdx.x); piece < n_pieces;
         piece += static_cast<int>(blockDim.x)) {
      const int column = piece * 4;
      float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (args.vector_x && column + 4 <= args.n_cols) {
        v = *reinterpret_cast<const float4*>(x + column);
      } else {
        if (column < args.n_cols) v.x = x[column];
        if (column + 1 < args.n_cols) v.y = x[column + 1];
        if (column + 2 < args.n_cols) v.z = x[column + 2];
        if (column + 3 < args.n_cols) v.w = x[column + 3];
      }
      // The inverse of run_column().
      const int in_group = column % kGroupSize;
      const int t = in_group / kLaneColumns % 4;
      const int stage =
          in_group / (4 * kLaneColumns) * (kLaneColumns / 8) + in_group % kLaneColumns / 8;
      uint8_t* to = shared + token * token_bytes(n_groups) + column / kGroupSize * 512 +
                    stage * 128 + column % 8 / 4 * 64 + t * 16;
      *reinterpret_cast<uint4*>(to) =
          make_uint4(to_tf32(v.x), to_tf32(v.y), to_tf32(v.z), to_tf32(v.w));
    }
  }
}

template <WeightFormat kFormat>
__global__ void __launch_bounds__(kMostDecodeWarps * 32, 2)
    float_linear_decode(const LinearArgs args) {
  using F = Fragments<kFormat>;
  using Shape = DecodeShape<kFormat>;
  constexpr int kBlocks = Shape::kBlocks;
  constexpr int kRows = Shape::kRows;
  constexpr int kOutputs = kDecodeTokens * kRows;
  constexpr int kOutputsPerThread = (kOutputs - 1) / (Shape::kLeastWarps * 32) + 1;
  // Halves on their way while one is waited for: three, or two where it needs the half after it.
  constexpr int kPending = F::kHalvesApart ? 3 : 2;
  extern __shared__ __align__(128) uint8_t decode_shared[];
  const auto n_threads = static_cast<int>(blockDim.x);
  const int n_warps = n_threads / 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint8_t* buffers = decode_shared + warp * (kDecodeBuffers * Shape::kBufferBytes);
  auto* all_sums =
      reinterpret_cast<float*>(decode_shared + n_warps * (kDecodeBuffers * Shape::kBufferBytes));
  float* all_scales = all_sums + 2 * n_warps * Shape::kSums;
  auto* activations = reinterpret_cast<uint8_t*>(all_scales + 2 * n_warps * kRows);

  const auto n_groups = static_cast<int>(n_groups_of(args));
  const auto n_blocks = static_cast<int>((args.n_rows + kBlockRows - 1) / kBlockRows);
  const int first_block = static_cast<int>(blockIdx.x) * kBlocks;
  const int block_step = static_cast<int>(gridDim.x) * kBlocks;
  const auto halves_of = [&](int group) {
    return min(2, (args.n_stages - group * kGroupStages) / 2);
  };
  // This lane's runs of group 0; absent tokens stand for the last one.
  const int token = min(lane / 4, static_cast<int>(args.n_tokens) - 1);
  const uint8_t* runs = activations + token * token_bytes(n_groups) + lane % 4 * 16;

  // What is copied next: two rounds ahead of what is multiplied, into the same buffer.
  int copy_block = first_block;
  int copy_group = warp;
  typename F::Lines lines[kBlocks];
  const auto find_lines = [&] {
#pragma unroll
    for (int i = 0; i < kBlocks; ++i)
      lines[i] = F::lines(args, min(copy_block + i, n_blocks - 1), lane);
  };
  find_lines();
  const auto copy_half = [&](int half, uint8_t* buffer) {
    if (copy_block < n_blocks && copy_group < n_groups) {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        uint8_t* to = buffer + i * Shape::kBlockBytes;
        F::copy_half(lines[i], copy_group, half, halves_of(copy_group), lane, to);
        if constexpr (F::kHasGroupScales) {
          if (half == 1 && lane < 2) {
            const auto* scales = reinterpret_cast<const uint8_t*>(
                unit_scales(args, min(copy_block + i, n_blocks - 1), copy_group));
            float_copy::copy16(to + F::kGroupBytes + lane * 16, scales + lane * 16, 16);
          }
        }
      }
    }
    float_copy::commit();
  };
  const auto advance_copy = [&] {
    copy_group += n_warps;
    if (copy_group - warp >= n_groups) {
      copy_group = warp;
      copy_block += block_step;
      find_lines();
    }
  };
#pragma unroll
  for (int i = 0; i < kDecodeBuffers; ++i) {
    copy_half(0, buffers + i * Shape::kBufferBytes);
    copy_half(1, buffers + i * Shape::kBufferBytes);
    advance_copy();
  }
  take_turn();
  store_activations<F::kLaneColumns>(args, activations);
  __syncthreads();

  float total[kOutputsPerThread] = {};
  int parity = 0;  // of the round: which buffer, which half of the sums
  for (int block = first_block; block < n_blocks; block += block_step) {
    for (int first = 0; first < n_groups; first += n_warps, parity ^= 1) {
      float* sums = all_sums + (parity * n_warps + warp) * Shape::kSums;
      float* scales = all_scales + (parity * n_warps + warp) * kRows;
      uint8_t* buffer = buffers + parity * Shape::kBufferBytes;
      const int group = first + warp;
      const int n_halves = group < n_groups ? halves_of(group) : 0;
      float acc[kBlocks][4] = {};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float_copy::wait_group<kPending>();
        __syncwarp();
        if (half < n_halves) {
          uint32_t words[kBlocks][2][F::kStageWords];
#pragma unroll
          for (int i = 0; i < kBlocks; ++i)
            F::read_half(buffer + i * Shape::kBlockBytes, half, lane, words[i]);
#pragma unroll
          for (int stage = 0; stage < 2; ++stage) {
            const auto* run =
                reinterpret_cast<const uint4*>(runs + group * 512 + (half * 2 + stage) * 128);
            uint32_t b[8];
            put(&b[0], run[0]);
            put(&b[4], run[4]);
#pragma unroll
            for (int i = 0; i < kBlocks; ++i) {
              uint32_t row[8];
              uint32_t row8[8];
              F::unpack(words[i][stage], row, row8);
#pragma unroll
              for (int j = 0; j < 4; ++j) {
                mma_m16n8k8(acc[i], row[2 * j], row8[2 * j], row[2 * j + 1], row8[2 * j + 1],
                            b[2 * j], b[2 * j + 1]);
              }
            }
          }
          if constexpr (F::kHasGroupScales) {
            if (half == 1 && lane < kBlockRows) {
#pragma unroll
              for (int i = 0; i < kBlocks; ++i) {
                const auto* halves = reinterpret_cast<const uint16_t*>(
                    buffer + i * Shape::kBlockBytes + F::kGroupBytes);
                scales[i * kBlockRows + lane] = scale_value(halves[lane], args.scale_multiplier);
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
          float* to = sums + lane % 4 * 2 * Shape::kTokenStride + i * kBlockRows + lane / 4;
          to[0] = acc[i][0];
          to[Shape::kTokenStride] = acc[i][1];
          to[8] = acc[i][2];
          to[Shape::kTokenStride + 8] = acc[i][3];
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
        const int out_token = output / kRows;
        if (output >= kOutputs || out_token >= args.n_tokens) continue;
#pragma unroll
        for (int w = 0; w < kMostDecodeWarps; ++w) {
          if (w < n_sums) {
            const float scale = F::kHasGroupScales ? round_scales[w * kRows + row] : 1.0f;
            total[i] =
                __fmaf_rn(round_sums[w * Shape::kSums + out_token * Shape::kTokenStride + row],
                          scale, total[i]);
          }
        }
        if (last_round) {
          const int64_t out_row = int64_t{block} * kBlockRows + row;
          if (out_row < args.n_rows) store_sum<kFormat>(args, out_row, out_token, total[i]);
          total[i] = 0.0f;
        }
      }
    }
  }
}

}  // namespace flexq::float_linear
