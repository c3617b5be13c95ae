// out = W x for many tokens with fp32 activations: bound by the TF32 tensor cores.
//
// Grid: (ceil(n_tokens / tile tokens), ceil(N / tile rows)); kWarpsM * kWarpsN warps. A warp makes
// kBlocks * 16 rows x kTokenTiles * 8 tokens. Stages of 32 columns go through a ring of kRing
// buffers in dynamic shared memory, filled by cp.async kRing - 1 stages ahead: weights as the lanes
// own them (float_weight_fragments.cuh), activations as (tokens, 8 pieces of 4 floats), piece 2t +
// h being half h of lane t's run; pieces of odd tokens are swapped in pairs so that the 16-byte
// reads of 8 lanes, runs of two tokens, hit 32 banks.
//
// Order of sums: that of float_linear_decode.cuh. Per group of 128 columns 16 mma.m16n8k8 in
// ascending steps from 0, then total = fma(group sum, scale of the group, total).
// N, K and n_tokens are arbitrary.
#pragma once

#include "kernels/cuda/float_weight_fragments.cuh"

namespace flexq::float_linear {

template <int kWarpsM_, int kWarpsN_, int kBlocks_, int kTokenTiles_, int kRing_>
struct Tile {
  static constexpr int kRing = kRing_;              // buffers
  static constexpr int kWarpsM = kWarpsM_;          // warps along rows
  static constexpr int kWarpsN = kWarpsN_;          // warps along tokens
  static constexpr int kBlocks = kBlocks_;          // blocks of 16 rows per warp
  static constexpr int kTokenTiles = kTokenTiles_;  // tiles of 8 tokens per warp
  static constexpr int kWarps = kWarpsM * kWarpsN;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kCtaBlocks = kWarpsM * kBlocks;
  static constexpr int kRows = kCtaBlocks * kBlockRows;
  static constexpr int kTokens = kWarpsN * kTokenTiles * 8;
  static_assert(kCtaBlocks % kWarps == 0, "each warp copies the weights of as many blocks");
};
using LargeTile = Tile<2, 2, 4, 4, 3>;  // 128 rows x 64 tokens
using SmallTile =
    Tile<2, 2, 2, 4, 4>;  // 64 rows x 64 tokens: where large ones leave processors idle
using NarrowTile = Tile<4, 1, 1, 4, 5>;  // 64 rows x 32 tokens

inline constexpr int kTokenStageBytes = kStageColumns * 4;

template <typename T, WeightFormat kFormat>
inline constexpr int kTileStageBytes =
    T::kCtaBlocks* Fragments<kFormat>::kStageBytes + T::kTokens* kTokenStageBytes;

// Bytes of one stage of activations: token i of the tile, piece p at swizzled(i, p).
__device__ inline int swizzled(int token, int piece) {
  return token * kTokenStageBytes + (piece ^ (token & 1)) * 16;
}

// The pieces of every stage that one thread copies: 4 columns of kCount tokens. Tokens past the end
// are zeros and not read: all CTAs reading one row for them would queue at one slice of the cache.
template <typename T, int kLaneColumns>
struct ActivationCopies {
  static constexpr int kCount = T::kTokens * 8 / T::kThreads;
  static_assert(T::kTokens * 8 % T::kThreads == 0 && T::kThreads % 8 == 0,
                "a thread copies the same piece of several tokens");
  const float* row[kCount];
  int bytes[kCount];  // 16, or 0 past the last token
  int first_column;   // of the piece in its stage

  __device__ ActivationCopies(const LinearArgs& args, int64_t first_token) {
    const auto thread = static_cast<int>(threadIdx.x);
    first_column = thread % 8 / 2 * kLaneColumns + thread % 2 * 4;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int64_t token = first_token + thread / 8 + i * (T::kThreads / 8);
      row[i] = args.x + min(token, args.n_tokens - 1) * args.x_stride + first_column;
      bytes[i] = token < args.n_tokens ? 16 : 0;
    }
  }

  __device__ void copy(const LinearArgs& args, int group, int stage, uint8_t* shared) const {
    const auto thread = static_cast<int>(threadIdx.x);
    const int64_t column = int64_t{group} * kGroupSize + run_column<kLaneColumns>(0, stage);
    const bool whole = args.vector_x && column + 3 * kLaneColumns + 8 <= args.n_cols;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      uint8_t* to = shared + swizzled(thread / 8 + i * (T::kThreads / 8), thread % 8);
      if (whole)
        float_copy::copy16(to, row[i] + column, bytes[i]);
      else
        copy_ragged(args, row[i], bytes[i], column, to);
    }
  }

 private:
  // Element by element, zeros past K.
  __device__ void copy_ragged(const LinearArgs& args, const float* from, int n_bytes,
                              int64_t column, uint8_t* to) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const bool there = k * 4 < n_bytes && column + first_column + k < args.n_cols;
      float_copy::copy4(to + k * 4, there ? from + column + k : args.x, there ? 4 : 0);
    }
  }
};

template <WeightFormat kFormat, typename T>
__global__ void __launch_bounds__(T::kThreads, 2) float_linear_tile(const LinearArgs args) {
  using F = Fragments<kFormat>;
  constexpr int kWeightBytes = T::kCtaBlocks * F::kStageBytes;
  constexpr int kStageBytes = kTileStageBytes<T, kFormat>;
  extern __shared__ __align__(128) uint8_t tile_ring[];

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_m = warp % T::kWarpsM;
  const int warp_n = warp / T::kWarpsM;
  const int64_t first_token = int64_t{blockIdx.x} * T::kTokens;
  const int64_t first_block = int64_t{blockIdx.y} * T::kCtaBlocks;
  const int64_t last_block = (args.n_rows - 1) / kBlockRows;
  const int n_stages = args.n_stages;

  const ActivationCopies<T, F::kLaneColumns> activations(args, first_token);
  constexpr int kCopies = T::kCtaBlocks / T::kWarps;
  typename F::Source sources[kCopies];
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    // Blocks past the end stand for the last one, they are not stored.
    const int64_t block = min(first_block + warp + i * T::kWarps, last_block);
    sources[i] = F::source(args, block, lane);
  }
  const auto copy = [&](int stage) {
    if (stage < n_stages) {
      uint8_t* shared = tile_ring + stage % T::kRing * kStageBytes;
      const int group = stage / kGroupStages;
      const int in_group = stage % kGroupStages;
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        F::copy_stage(sources[i], group, in_group, lane,
                      shared + (warp + i * T::kWarps) * F::kStageBytes);
      }
      activations.copy(args, group, in_group, shared + kWeightBytes);
    }
    float_copy::commit();
  };
#pragma unroll
  for (int stage = 0; stage < T::kRing - 1; ++stage)
    copy(stage);

  float total[T::kBlocks][T::kTokenTiles][4] = {};
  float acc[T::kBlocks][T::kTokenTiles][4] = {};
  for (int stage = 0; stage < n_stages; ++stage) {
    float_copy::wait_group<T::kRing - 2>();
    // Every thread sees the stage, and has left the buffer that is filled next.
    __syncthreads();
    copy(stage + T::kRing - 1);

    const uint8_t* weights = tile_ring + stage % T::kRing * kStageBytes;
    const uint8_t* tokens = weights + kWeightBytes;
    uint32_t b[T::kTokenTiles][8];
#pragma unroll
    for (int tile = 0; tile < T::kTokenTiles; ++tile) {
      const int token = (warp_n * T::kTokenTiles + tile) * 8 + lane / 4;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float4 v =
            *reinterpret_cast<const float4*>(tokens + swizzled(token, lane % 4 * 2 + half));
        b[tile][half * 4] = to_tf32(v.x);
        b[tile][half * 4 + 1] = to_tf32(v.y);
        b[tile][half * 4 + 2] = to_tf32(v.z);
        b[tile][half * 4 + 3] = to_tf32(v.w);
      }
    }
#pragma unroll
    for (int block = 0; block < T::kBlocks; ++block) {
      uint32_t words[F::kStageWords];
      uint32_t row[8];
      uint32_t row8[8];
      F::read_stage(weights + (warp_m * T::kBlocks + block) * F::kStageBytes, lane, words);
      F::unpack(words, row, row8);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int tile = 0; tile < T::kTokenTiles; ++tile) {
          mma_m16n8k8(acc[block][tile], row[2 * j], row8[2 * j], row[2 * j + 1], row8[2 * j + 1],
                      b[tile][2 * j], b[tile][2 * j + 1]);
        }
      }
    }

    if (stage % kGroupStages == kGroupStages - 1 || stage == n_stages - 1) {
#pragma unroll
      for (int block = 0; block < T::kBlocks; ++block) {
        float scale = 1.0f;
        float scale8 = 1.0f;
        if constexpr (F::kHasGroupScales) {
          const int64_t existing = min(first_block + warp_m * T::kBlocks + block, last_block);
          const uint16_t* scales = unit_scales(args, existing, stage / kGroupStages);
          scale = scale_value(scales[lane / 4], args.scale_multiplier);
          scale8 = scale_value(scales[lane / 4 + 8], args.scale_multiplier);
        }
#pragma unroll
        for (int tile = 0; tile < T::kTokenTiles; ++tile) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            total[block][tile][i] =
                __fmaf_rn(acc[block][tile][i], i < 2 ? scale : scale8, total[block][tile][i]);
            acc[block][tile][i] = 0.0f;
          }
        }
      }
    }
  }

#pragma unroll
  for (int block = 0; block < T::kBlocks; ++block) {
#pragma unroll
    for (int tile = 0; tile < T::kTokenTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t row =
            (first_block + warp_m * T::kBlocks + block) * kBlockRows + lane / 4 + i / 2 * 8;
        const int64_t token =
            first_token + (warp_n * T::kTokenTiles + tile) * 8 + lane % 4 * 2 + i % 2;
        if (row < args.n_rows && token < args.n_tokens)
          store_sum<kFormat>(args, row, token, total[block][tile][i]);
      }
    }
  }
}

}  // namespace flexq::float_linear
