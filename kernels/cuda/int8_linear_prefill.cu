// out[t, n] = sum over groups g ascending of fma((float)dot(t, n, g), sx[t, g] * sw[n, g], acc)
// for a tile of rows and tokens per CTA.
//
// Grid: (ceil(n_tokens / kTileTokens), ceil(n_rows / kTileRows)): CTAs that run together share
// weights. Threads: 32 * kRowWarps * kTokenWarps; a warp has kWarpUnits * 16 rows and kWarpTiles *
// 8 tokens, and one fp32 accumulator per output from the first group to the last. Per group of 128
// columns a warp unpacks its weights once into registers, and for every tile of 16 rows x 8 tokens
// chains 4 mma.m16n8k32 and adds the exact int32 dots to the sums: 4 integers are live, not a tile.
//
// Shared memory: kStages groups of activations, packed weights and both scales, which all threads
// fill by cp.async, kAhead groups ahead of their own work. Warps wait at mbarriers, for copies or
// for a stage to be free, never for each other's arithmetic: they drift apart by up to kStages -
// kAhead groups, so that one unpacks or scales while another keeps the tensor cores busy. The
// 16-byte pieces of a token's 128 codes are swapped in pairs for odd tokens: a quarter of a warp,
// which reads 16 bytes from each of 8 places of two tokens, then meets all 32 banks once.
//
// N, K and n_tokens of any size: the layout pads rows and columns. Tokens and row blocks past the
// end are neither copied (to repeat the last one would send every CTA to the same line of L2) nor
// stored; their products are of whatever shared memory holds.
#include "kernels/cuda/int8_linear_prefill.h"
#include "kernels/cuda/int8_unit.cuh"
#include "kernels/cuda/mma_int8.cuh"

namespace flexq {
namespace {

using cuda_int8::kGroupSize;
using cuda_int8::kUnitRows;

// kRowWarps x kTokenWarps warps share a tile.
template <int kBits_, Int8Tile kTile_, int kRowWarps_, int kTokenWarps_>
struct PrefillShape {
  static constexpr int kBits = kBits_;
  static constexpr Int8Tile kTile = kTile_;
  static constexpr int kRowWarps = kRowWarps_;
  static constexpr int kStages = kInt8PrefillStages;

  static constexpr int kWarps = kRowWarps * kTokenWarps_;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kTileUnits = tile_rows(kTile) / kUnitRows;
  static constexpr int kTileTokens = tile_tokens(kTile);
  static constexpr int kWarpUnits = kTileUnits / kRowWarps;
  static constexpr int kWarpTiles = kTileTokens / 8 / kTokenWarps_;
  static constexpr int kUnitBytes = static_cast<int>(cuda_int8::unit_bytes(kBits));
  static constexpr int kUnitScaleBytes = 32;

  // A stage, in this order.
  static constexpr int kActivationBytes = kTileTokens * 128;
  static constexpr int kCodesBytes = kTileUnits * kUnitBytes;
  static constexpr int kScaleBytes = kTileUnits * kUnitScaleBytes;
  static constexpr int kCodes = kActivationBytes;
  static constexpr int kScales = kCodes + kCodesBytes;
  static constexpr int kTokenScales = kScales + kScaleBytes;
  static constexpr int kStageBytes = kTokenScales + kTileTokens * 4;
  static constexpr int kSharedBytes = kStages * (kStageBytes + 16);  // and two barriers each
  static_assert(kSharedBytes == int8_prefill_shared_bytes(kBits, kTile),
                "select_linear() counts on it");
  static_assert(kStageBytes % 16 == 0, "stages start on 16 bytes");
  static_assert(kTileUnits % kRowWarps == 0 && kTileTokens % (8 * kTokenWarps_) == 0,
                "warps share a tile equally");
  static_assert(kTileTokens * 8 % kThreads == 0, "all threads copy the same number of pieces");
  static_assert(kTileTokens <= kThreads, "one token scale per thread");
};

// Groups between a copy and its use.
constexpr int kAhead = 2;

// What a thread copies in every group: fixed places, a group apart in memory.
template <typename S>
struct StageLoader {
  static constexpr int kTokenPieces = S::kTileTokens * 8 / S::kThreads;
  static constexpr int kWarpCopies = (S::kTileUnits + S::kWarps - 1) / S::kWarps;

  const int8_t* codes;   // of the thread's first token: 16 of its 128 bytes
  int64_t pieces_apart;  // bytes between the codes of two of the thread's tokens
  int32_t n_pieces;      // of this thread
  const float* token_scale;
  const uint8_t* units[kWarpCopies];
  const uint16_t* unit_scales[kWarpCopies];
  int32_t n_units;  // of this warp

  __device__ void init(const Int8LinearArgs& args, int32_t first_unit, int32_t first_token) {
    const auto thread = static_cast<int32_t>(threadIdx.x);
    const int32_t lane = thread % 32;
    const int64_t n_groups = args.n_groups;
    const int32_t tokens_left = args.n_tokens - first_token;
    const int64_t token = first_token + thread / 8;
    codes = args.x_codes + token * n_groups * kGroupSize + thread % 8 * 16;
    pieces_apart = S::kThreads / 8 * n_groups * kGroupSize;
    n_pieces =
        min(kTokenPieces, (tokens_left - thread / 8 + S::kThreads / 8 - 1) / (S::kThreads / 8));
    token_scale = thread < min(S::kTileTokens, tokens_left)
                      ? args.x_scales + (first_token + thread) * n_groups
                      : nullptr;
    const int32_t units_left =
        min(S::kTileUnits, static_cast<int32_t>(cuda_int8::n_blocks(args.n_rows)) - first_unit);
    n_units = min(kWarpCopies, (units_left - thread / 32 + S::kWarps - 1) / S::kWarps);
#pragma unroll
    for (int i = 0; i < kWarpCopies; ++i) {
      const int64_t block = first_unit + thread / 32 + i * S::kWarps;
      units[i] = args.codes + block * n_groups * S::kUnitBytes + lane * 16;
      unit_scales[i] = args.scales + block * n_groups * kUnitRows + lane * 8;
    }
  }

  // Queues the copies of the next group.
  __device__ void load_next(uint32_t stage) {
    const auto thread = static_cast<int32_t>(threadIdx.x);
    const int32_t lane = thread % 32;
#pragma unroll
    for (int i = 0; i < kTokenPieces; ++i) {
      const int32_t token = (thread + i * S::kThreads) / 8;
      const int32_t piece = thread % 8 ^ (token & 1);
      if (i < n_pieces) cp_async_16(stage + token * 128 + piece * 16, codes + i * pieces_apart);
    }
    codes += kGroupSize;
#pragma unroll
    for (int i = 0; i < kWarpCopies; ++i) {
      const int32_t unit = thread / 32 + i * S::kWarps;
      if (i < n_units) {
#pragma unroll
        for (int load = 0; load < S::kUnitBytes / 512; ++load)
          cp_async_16(stage + S::kCodes + unit * S::kUnitBytes + load * 512 + lane * 16,
                      units[i] + load * 512);
        if (lane < 2)
          cp_async_16(stage + S::kScales + unit * S::kUnitScaleBytes + lane * 16, unit_scales[i]);
      }
      units[i] += S::kUnitBytes;
      unit_scales[i] += kUnitRows;
    }
    if (token_scale != nullptr) {
      cp_async_4(stage + S::kTokenScales + thread * 4, token_scale);
      ++token_scale;
    }
  }
};

// One group of a warp's tile: acc[unit][tile] += dots * scales.
template <typename S>
__device__ void multiply_group(const uint8_t* stage, float multiplier, int32_t row_warp,
                               int32_t token_warp, float (&acc)[S::kWarpUnits][S::kWarpTiles][4]) {
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  uint32_t a[S::kWarpUnits][16];
  float row_scales[S::kWarpUnits][2];  // of rows lane / 4 and lane / 4 + 8
#pragma unroll
  for (int i = 0; i < S::kWarpUnits; ++i) {
    const int32_t unit = row_warp * S::kWarpUnits + i;
    load_unit<S::kBits>(stage + S::kCodes + unit * S::kUnitBytes, lane, a[i]);
    const auto* scales =
        reinterpret_cast<const uint16_t*>(stage + S::kScales) + unit * kUnitRows + lane / 4;
    row_scales[i][0] = weight_scale(scales[0], multiplier);
    row_scales[i][1] = weight_scale(scales[8], multiplier);
  }
  const int32_t first_token = token_warp * S::kWarpTiles * 8;
  const auto* codes = reinterpret_cast<const uint4*>(stage) + (first_token + lane / 4) * 8;
  const auto* token_scales =
      reinterpret_cast<const float2*>(stage + S::kTokenScales) + first_token / 2 + lane % 4;
  const int32_t low_piece = (lane % 4 * 2) ^ (lane / 4 & 1);
#pragma unroll
  for (int tile = 0; tile < S::kWarpTiles; ++tile) {
    const uint4 low = codes[tile * 64 + low_piece];
    const uint4 high = codes[tile * 64 + (low_piece ^ 1)];
    const float2 x_scale = token_scales[tile * 4];
#pragma unroll
    for (int i = 0; i < S::kWarpUnits; ++i) {
      constexpr int32_t kZero[4] = {kDotZeroBits, kDotZeroBits, kDotZeroBits, kDotZeroBits};
      int32_t c[4];
      mma_m16n8k32_s8(c, a[i], low.x, low.y, kZero);
      mma_m16n8k32_s8(c, a[i] + 4, low.z, low.w, c);
      mma_m16n8k32_s8(c, a[i] + 8, high.x, high.y, c);
      mma_m16n8k32_s8(c, a[i] + 12, high.z, high.w, c);
      float(&sum)[4] = acc[i][tile];
      sum[0] = add_group(sum[0], dot_to_float(c[0]), x_scale.x, row_scales[i][0]);
      sum[1] = add_group(sum[1], dot_to_float(c[1]), x_scale.y, row_scales[i][0]);
      sum[2] = add_group(sum[2], dot_to_float(c[2]), x_scale.x, row_scales[i][1]);
      sum[3] = add_group(sum[3], dot_to_float(c[3]), x_scale.y, row_scales[i][1]);
    }
  }
}

template <typename S>
__global__ void __launch_bounds__(S::kThreads, tile_ctas_per_sm(S::kTile))
    prefill_kernel(const Int8LinearArgs args) {
  extern __shared__ __align__(128) uint8_t shared[];
  const uint32_t stages = shared_address(shared);
  const auto warp = static_cast<int32_t>(threadIdx.x) / 32;
  const int32_t row_warp = warp % S::kRowWarps;
  const int32_t token_warp = warp / S::kRowWarps;
  const auto first_token = static_cast<int32_t>(blockIdx.x) * S::kTileTokens;
  const auto first_unit = static_cast<int32_t>(blockIdx.y) * S::kTileUnits;

  const uint32_t full = stages + S::kStages * S::kStageBytes;
  const uint32_t empty = full + S::kStages * 8;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < S::kStages; ++stage) {
      mbarrier_init(full + stage * 8, S::kThreads);
      mbarrier_init(empty + stage * 8, S::kThreads);
    }
  }
  __syncthreads();

  StageLoader<S> loader;
  loader.init(args, first_unit, first_token);
  for (int stage = 0; stage < kAhead && stage < args.n_groups; ++stage) {
    loader.load_next(stages + stage * S::kStageBytes);
    mbarrier_arrive_after_copies(full + stage * 8);
  }

  float acc[S::kWarpUnits][S::kWarpTiles][4] = {};
  for (int32_t group = 0; group < args.n_groups; ++group) {
    const int32_t next = group + kAhead;
    if (next < args.n_groups) {
      const int32_t stage = next % S::kStages;
      if (next >= S::kStages) mbarrier_wait(empty + stage * 8, (next / S::kStages - 1) & 1);
      loader.load_next(stages + stage * S::kStageBytes);
      mbarrier_arrive_after_copies(full + stage * 8);
    }
    const int32_t stage = group % S::kStages;
    mbarrier_wait(full + stage * 8, group / S::kStages & 1);
    multiply_group<S>(shared + stage * S::kStageBytes, args.multiplier, row_warp, token_warp, acc);
    mbarrier_arrive(empty + stage * 8);
  }

  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < S::kWarpUnits; ++i) {
    const int32_t unit = first_unit + row_warp * S::kWarpUnits + i;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t row = unit * static_cast<int32_t>(kUnitRows) + half * 8 + lane / 4;
      if (row >= args.n_rows) continue;
#pragma unroll
      for (int tile = 0; tile < S::kWarpTiles; ++tile) {
        const int32_t token = first_token + (token_warp * S::kWarpTiles + tile) * 8 + lane % 4 * 2;
        if (token < args.n_tokens) store_output(args, token, row, acc[i][tile][half * 2]);
        if (token + 1 < args.n_tokens)
          store_output(args, token + 1, row, acc[i][tile][half * 2 + 1]);
      }
    }
  }
}

template <typename S>
cudaError_t launch_prefill(const CudaLaunch& where, const Int8LinearArgs& args) {
  const auto n_blocks = static_cast<uint32_t>(cuda_int8::n_blocks(args.n_rows));
  const auto n_tokens = static_cast<uint32_t>(args.n_tokens);
  const dim3 grid((n_tokens + S::kTileTokens - 1) / S::kTileTokens,
                  (n_blocks + S::kTileUnits - 1) / S::kTileUnits);
  return launch(where, prefill_kernel<S>, grid, dim3(S::kThreads), S::kSharedBytes, args);
}

template <int kBits>
cudaError_t launch_tile(const CudaLaunch& where, const Int8LinearArgs& args, Int8Tile tile) {
  switch (tile) {
    case Int8Tile::k32x32:
      return launch_prefill<PrefillShape<kBits, Int8Tile::k32x32, 2, 2>>(where, args);
    case Int8Tile::k64x32:
      return launch_prefill<PrefillShape<kBits, Int8Tile::k64x32, 4, 1>>(where, args);
    case Int8Tile::k64x64:
      return launch_prefill<PrefillShape<kBits, Int8Tile::k64x64, 2, 2>>(where, args);
    case Int8Tile::k128x64:
      return launch_prefill<PrefillShape<kBits, Int8Tile::k128x64, 4, 1>>(where, args);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t int8_linear_prefill(const CudaLaunch& launch, const Int8LinearArgs& args,
                                int32_t weight_bits, Int8Tile tile) {
  return weight_bits == 6 ? launch_tile<6>(launch, args, tile) : launch_tile<8>(launch, args, tile);
}

}  // namespace flexq
