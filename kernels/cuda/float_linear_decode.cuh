// out = W x for 1 to 8 * kTokenTiles tokens with fp32 activations: bound by reading the weights.
//
// Grid: any number of CTAs of 8 warps. The rows are cut into sets of kBlocks * 16; `split` warps
// (1, 4 or 8) make a set, the one after the other as many groups of 128 columns, then the set a
// grid further. Weights come straight from global memory into registers; as soon as a stage of a
// group is unpacked, its registers take the same stage of the warp's next group: memory is never
// idle, not even from one set to the next. A group is 16 mma.m16n8k8 for every 16 rows x 8 tokens;
// the sums of groups are added in ascending order,
//     total = fma(group sum, scale of the group, total)
// where one warp makes the whole set in its registers, else, after every round of `split` groups
// through shared memory, by one thread per output.
// Shared memory: static, two rounds of group sums. N, K and n_tokens are arbitrary.
#pragma once

#include "kernels/cuda/float_weight_fragments.cuh"

namespace flexq::float_linear {

inline constexpr int kDecodeWarps = 8;
inline constexpr int kDecodeThreads = kDecodeWarps * 32;

template <WeightFormat kFormat, int kTokenTiles>
struct DecodeShape {
  // Blocks of 16 rows that a warp takes at once: about 32 registers of weights.
  static constexpr int kBlocks = Fragments<kFormat>::kGroupWords <= 16 && kTokenTiles <= 2 ? 2 : 1;
  static constexpr int kRows = kBlocks * kBlockRows;
  static constexpr int kTokens = kTokenTiles * 8;
  // Whether one warp may make a set alone: with more tokens the registers do not hold the sums.
  static constexpr bool kAlone = kTokenTiles == 1;
  // CTAs per multiprocessor that the registers must allow.
  static constexpr int kCtas = kFormat == WeightFormat::kF32 ? 1 : 2;
  // Rows of a token 4 floats apart from a multiple of 16: the 32 lanes that store one register hit
  // 32 banks.
  static constexpr int kTokenStride = kRows + 4;
};

// 8 activations from `column` on, rounded to TF32.
__device__ inline void load_run(const float* x, uint32_t (&b)[8]) {
  const float4 first = *reinterpret_cast<const float4*>(x);
  const float4 second = *reinterpret_cast<const float4*>(x + 4);
  b[0] = to_tf32(first.x), b[1] = to_tf32(first.y);
  b[2] = to_tf32(first.z), b[3] = to_tf32(first.w);
  b[4] = to_tf32(second.x), b[5] = to_tf32(second.y);
  b[6] = to_tf32(second.z), b[7] = to_tf32(second.w);
}
// The same where 16-byte loads are not possible; n_left columns are left, zeros behind them.
__device__ inline void load_ragged_run(const float* x, int64_t n_left, uint32_t (&b)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i)
    b[i] = i < n_left ? to_tf32(x[i]) : 0u;
}

template <WeightFormat kFormat, int kTokenTiles>
__global__ void __launch_bounds__(kDecodeThreads, DecodeShape<kFormat, kTokenTiles>::kCtas)
    float_linear_decode(const LinearArgs args, const int32_t split) {
  using F = Fragments<kFormat>;
  using Shape = DecodeShape<kFormat, kTokenTiles>;
  constexpr int kBlocks = Shape::kBlocks;
  constexpr int kRows = Shape::kRows;
  constexpr int kOutputs = Shape::kTokens * kRows;
  constexpr int kLeastThreads = 4 * 32;  // of a set whose warps share sums
  constexpr int kOutputsPerThread = (kOutputs - 1) / kLeastThreads + 1;
  __shared__ float group_sums[2][kDecodeWarps][Shape::kTokens * Shape::kTokenStride];
  __shared__ float group_scales[2][kDecodeWarps][kRows];

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_warp = warp / split * split;  // of the set
  const int member = warp - first_warp;
  const auto n_groups = static_cast<int>(n_groups_of(args));
  const int64_t n_blocks = (args.n_rows + kBlockRows - 1) / kBlockRows;
  const int64_t n_sets = (n_blocks + kBlocks - 1) / kBlocks;
  const int64_t cta_sets = kDecodeWarps / split;
  const int64_t set_step = gridDim.x * cta_sets;

  // Absent tokens stand for the last one: their columns of the product are not stored.
  const float* x[kTokenTiles];
#pragma unroll
  for (int tile = 0; tile < kTokenTiles; ++tile) {
    x[tile] = args.x + min(int64_t{tile * 8 + lane / 4}, args.n_tokens - 1) * args.x_stride +
              lane % 4 * F::kLaneColumns;
  }

  // The group whose weights are being loaded, a round ahead of the products. Where there is none,
  // what was loaded last is loaded again, from the cache, and not used.
  int64_t next_set = blockIdx.x * cta_sets + warp / split;
  int next_group = member;
  bool next_there = false;
  typename F::Source source[kBlocks];
  int load_group = 0;
  uint16_t scale_bits[kBlocks][2] = {};  // of rows g and g + 8
  const auto look_ahead = [&](bool new_set) {
    next_there = next_set < n_sets && next_group < n_groups;
    if (next_there) load_group = next_group;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const int64_t existing = min(next_set * kBlocks + i, n_blocks - 1);
      if (new_set) source[i] = F::source(args, existing, lane);
      if constexpr (F::kHasGroupScales) {
        const uint16_t* scales = unit_scales(args, existing, load_group) + lane / 4;
        scale_bits[i][0] = scales[0];
        scale_bits[i][1] = scales[8];
      }
    }
  };
  const auto stages_of = [&](int group) {
    return min(kGroupStages, args.n_stages - group * kGroupStages);
  };
  look_ahead(true);
  uint32_t raw[kBlocks][F::kGroupWords];
#pragma unroll
  for (int stage = 0; stage < kGroupStages; ++stage) {
#pragma unroll
    for (int i = 0; i < kBlocks; ++i)
      F::load_freed(source[i], load_group, stages_of(load_group), stage, raw[i]);
  }

  float own_total[kBlocks][kTokenTiles][4] = {};  // where the warp makes the set alone
  float total[kOutputsPerThread] = {};            // else
  int parity = 0;
  for (int64_t cta_set = blockIdx.x * cta_sets; cta_set < n_sets; cta_set += set_step) {
    const int64_t set = cta_set + warp / split;
    for (int first = 0; first < n_groups; first += split, parity ^= 1) {
      const bool last_round = first + split >= n_groups;
      const bool there = next_there;
      const int n_stages = stages_of(next_group);
      const int64_t column = int64_t{next_group} * kGroupSize;
      float scales[kBlocks][2];
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          scales[i][half] =
              F::kHasGroupScales ? scale_value(scale_bits[i][half], args.scale_multiplier) : 1.0f;
        }
      }
      next_group = last_round ? member : next_group + split;
      if (last_round) next_set += set_step;
      look_ahead(last_round);
      const int load_stages = stages_of(load_group);

      float acc[kBlocks][kTokenTiles][4] = {};
      const bool whole = args.vector_x && column + kGroupSize <= args.n_cols;
      const int64_t n_left = args.n_cols - column - lane % 4 * F::kLaneColumns;
      const auto load_tokens = [&](int stage, uint32_t(&b)[kTokenTiles][8]) {
        const int at = run_column<F::kLaneColumns>(0, stage);
#pragma unroll
        for (int tile = 0; tile < kTokenTiles; ++tile) {
          if (whole)
            load_run(x[tile] + column + at, b[tile]);
          else
            load_ragged_run(x[tile] + column + at, n_left - at, b[tile]);
        }
      };
      if (there) {
#pragma unroll
        for (int stage = 0; stage < kGroupStages; ++stage) {
          uint32_t b[kTokenTiles][8];
          load_tokens(stage, b);
#pragma unroll
          for (int i = 0; i < kBlocks; ++i) {
            uint32_t words[F::kStageWords];
            uint32_t row[8];
            uint32_t row8[8];
            F::group_stage(raw[i], stage, words);
            F::unpack(words, row, row8);
            F::load_freed(source[i], load_group, load_stages, stage, raw[i]);
            // Stages past the end: raw holds what it may, nothing is multiplied.
            if (stage < 2 || stage < n_stages) {
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
      } else {
        // A round in which this warp has nothing to multiply: it still loads for the next.
#pragma unroll
        for (int stage = 0; stage < kGroupStages; ++stage) {
#pragma unroll
          for (int i = 0; i < kBlocks; ++i)
            F::load_freed(source[i], load_group, load_stages, stage, raw[i]);
        }
      }

      if (Shape::kAlone && split == 1) {
#pragma unroll
        for (int i = 0; i < kBlocks; ++i) {
#pragma unroll
          for (int tile = 0; tile < kTokenTiles; ++tile) {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
              float& sum = own_total[i][tile][c];
              sum = __fmaf_rn(acc[i][tile][c], scales[i][c / 2], sum);
              if (!last_round) continue;
              const int64_t row = (set * kBlocks + i) * kBlockRows + lane / 4 + c / 2 * 8;
              const int64_t token = tile * 8 + lane % 4 * 2 + c % 2;
              if (row < args.n_rows && token < args.n_tokens)
                store_sum<kFormat>(args, row, token, sum);
              sum = 0.0f;
            }
          }
        }
        continue;
      }

      if (there) {
#pragma unroll
        for (int i = 0; i < kBlocks; ++i) {
          if (lane % 4 == 0) {
            group_scales[parity][warp][i * kBlockRows + lane / 4] = scales[i][0];
            group_scales[parity][warp][i * kBlockRows + lane / 4 + 8] = scales[i][1];
          }
#pragma unroll
          for (int tile = 0; tile < kTokenTiles; ++tile) {
            float* to = &group_sums[parity][warp][(tile * 8 + lane % 4 * 2) * Shape::kTokenStride +
                                                  i * kBlockRows + lane / 4];
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
      const int n_sums = min(split, n_groups - first);
#pragma unroll
      for (int i = 0; i < kOutputsPerThread; ++i) {
        const int output = member * 32 + lane + i * split * 32;
        const int row = output % kRows;
        const int token = output / kRows;
        if (output >= kOutputs || token >= args.n_tokens) continue;
        for (int w = 0; w < n_sums; ++w) {
          total[i] =
              __fmaf_rn(group_sums[parity][first_warp + w][token * Shape::kTokenStride + row],
                        group_scales[parity][first_warp + w][row], total[i]);
        }
        if (last_round) {
          const int64_t out_row = set * kRows + row;
          if (out_row < args.n_rows) store_sum<kFormat>(args, out_row, token, total[i]);
          total[i] = 0.0f;
        }
      }
    }
  }
}

}  // namespace flexq::float_linear
