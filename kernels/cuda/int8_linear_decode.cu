// out[t, n] = sum over groups g ascending of fma((float)dot(t, n, g), sx[t, g] * sw[n, g], acc)
// for at most 32 tokens: the weights are read once, from memory to shared memory in long pieces.
//
// Grid: any number of CTAs; CTA c takes the row blocks (16 rows) c, c + gridDim.x, ...
// Threads: kWarps * 32. A block's groups are one linear stream of units, cut into rounds of
// kStageUnits. In a round
//   1. the warps wait for the stage; each multiplies its kWarpUnits units with mma.m16n8k32, the
//      weights as A straight from shared memory, 8 tokens per tile as the columns of B, read from
//      global memory (they stay in L1), and leaves 16 x tokens exact int32 dots in shared memory;
//   2. after one barrier (which also frees the stage: it is filled again at once) the thread of
//   each
//      output adds the round's dots to its sum in ascending groups.
// So the groups are shared by the warps and yet no float sum is split: the order is the CPU's.
// The dots are double-buffered: one barrier a round is enough.
//
// Shared memory: int8_decode_shared_bytes(). N and K of any size: the layout pads both.
// sm_90 fills stages by bulk copies and mbarriers, sm_80 by cp.async.
#include "kernels/cuda/int8_linear_decode.h"
#include "kernels/cuda/int8_unit.cuh"
#include "kernels/cuda/mma_int8.cuh"

namespace flexq {
namespace {

using cuda_int8::kUnitRows;

template <int kBits_, int kTiles_, int kWarps_, int kWarpUnits_, int kStages_>
struct DecodeShape {
  static constexpr int kBits = kBits_;
  static constexpr int kTiles = kTiles_;  // of 8 tokens
  static constexpr int kWarps = kWarps_;
  static constexpr int kWarpUnits = kWarpUnits_;
  static constexpr int kStages = kStages_;

  static constexpr int kThreads = kWarps * 32;
  static constexpr int kTokens = kTiles * 8;
  static constexpr int kOutputs = kTokens * 16;
  static constexpr int kThreadOutputs = (kOutputs + kThreads - 1) / kThreads;

  static constexpr int kStageUnits = kWarps * kWarpUnits;
  static constexpr int kUnitBytes = static_cast<int>(cuda_int8::unit_bytes(kBits));
  static constexpr int kUnitScaleBytes = 32;
  static constexpr int kCodesBytes = kStageUnits * kUnitBytes;
  static constexpr int kStageBytes = kCodesBytes + kStageUnits * kUnitScaleBytes;

  // Dots of a unit: token after token, 16 rows and 4 words of padding, so that the four tokens
  // which a warp writes at once fall into different banks.
  static constexpr int kTokenStride = 20;
  static constexpr int kUnitDots = kTokens * kTokenStride;
  static constexpr int kExchangeWords = kStageUnits * (kUnitDots + 16);  // and 16 weight scales

  static_assert(kStageUnits == kInt8DecodeStageUnits, "select_linear() counts on this stage");
  static_assert(kStages * (kStageBytes + 8) + 2 * kExchangeWords * 4 + kTokens * 4 ==
                    int8_decode_shared_bytes(kBits, kTokens, kStages, 1),
                "select_linear() counts the same shared memory");
};

// Where a CTA is in its stream of rounds.
struct RoundCursor {
  int32_t block;
  int32_t first_group;

  __device__ void advance(int32_t n_groups, int32_t round_groups) {
    first_group += round_groups;
    if (first_group >= n_groups) {
      first_group = 0;
      block += static_cast<int32_t>(gridDim.x);
    }
  }
};

template <typename S>
__device__ void fill_stage(const Int8LinearArgs& args, RoundCursor at, uint32_t stage,
                           uint32_t barrier) {
  const int32_t n_units = min(S::kStageUnits, args.n_groups - at.first_group);
  const int64_t first_unit = static_cast<int64_t>(at.block) * args.n_groups + at.first_group;
  const uint8_t* codes = args.codes + first_unit * S::kUnitBytes;
  const auto* scales = reinterpret_cast<const uint8_t*>(args.scales + first_unit * kUnitRows);
  const int32_t codes_bytes = n_units * S::kUnitBytes;
  const int32_t scales_bytes = n_units * S::kUnitScaleBytes;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  if constexpr (kHasBulkCopies) {
    if (thread >= 32) return;
    if (thread == 0) mbarrier_arrive_expect(barrier, codes_bytes + scales_bytes);
    __syncwarp();
    constexpr int32_t kPieceBytes = 6144;
    const int32_t piece = thread * kPieceBytes;
    if (piece < codes_bytes)
      cp_async_bulk(stage + piece, codes + piece, min(kPieceBytes, codes_bytes - piece), barrier);
    if (thread == 31) cp_async_bulk(stage + S::kCodesBytes, scales, scales_bytes, barrier);
    static_assert(S::kCodesBytes <= 31 * kPieceBytes, "one piece per lane of one warp");
  } else {
    for (int32_t i = thread * 16; i < codes_bytes; i += S::kThreads * 16)
      cp_async_16(stage + i, codes + i);
    for (int32_t i = thread * 16; i < scales_bytes; i += S::kThreads * 16)
      cp_async_16(stage + S::kCodesBytes + i, scales + i);
  }
}

// The B registers of one unit: 32 codes of the lane's token in each tile, zeros past the last
// token.
template <typename S>
__device__ void load_activations(const Int8LinearArgs& args, int32_t group, int32_t lane,
                                 uint4 (&b)[S::kTiles][2]) {
#pragma unroll
  for (int tile = 0; tile < S::kTiles; ++tile) {
    const int32_t token = tile * 8 + lane / 4;
    b[tile][0] = b[tile][1] = make_uint4(0, 0, 0, 0);
    if (token < args.n_tokens) {
      const int64_t row = static_cast<int64_t>(token) * args.n_groups;
      const auto* codes = reinterpret_cast<const uint4*>(
          args.x_codes + (row + group) * cuda_int8::kGroupSize + lane % 4 * 32);
      b[tile][0] = __ldg(codes);
      b[tile][1] = __ldg(codes + 1);
    }
  }
}

// Multiplies one unit and leaves dots and weight scales for the threads that add them.
template <typename S>
__device__ void multiply_unit(const Int8LinearArgs& args, const uint8_t* codes,
                              const uint16_t* scales, const uint4 (&b)[S::kTiles][2], int32_t lane,
                              int32_t* dots, float* weight_scales) {
  uint32_t a[16];
  load_unit<S::kBits>(codes, lane, a);
  if (lane < 16) weight_scales[lane] = weight_scale(scales[lane], args.multiplier);
  const int32_t row = lane / 4;
#pragma unroll
  for (int tile = 0; tile < S::kTiles; ++tile) {
    constexpr int32_t kZero[4] = {kDotZeroBits, kDotZeroBits, kDotZeroBits, kDotZeroBits};
    const uint4 low = b[tile][0];
    const uint4 high = b[tile][1];
    int32_t c[4];
    mma_m16n8k32_s8(c, a, low.x, low.y, kZero);
    mma_m16n8k32_s8(c, a + 4, low.z, low.w, c);
    mma_m16n8k32_s8(c, a + 8, high.x, high.y, c);
    mma_m16n8k32_s8(c, a + 12, high.z, high.w, c);
    int32_t* to = dots + (tile * 8 + lane % 4 * 2) * S::kTokenStride + row;
    to[0] = c[0];
    to[S::kTokenStride] = c[1];
    to[8] = c[2];
    to[S::kTokenStride + 8] = c[3];
  }
}

template <typename S>
__global__ void __launch_bounds__(S::kThreads) decode_kernel(const Int8LinearArgs args) {
  extern __shared__ __align__(128) uint8_t shared[];
  auto* exchange = reinterpret_cast<int32_t*>(shared + S::kStages * S::kStageBytes);
  auto* x_scales = reinterpret_cast<float*>(exchange + 2 * S::kExchangeWords);
  const uint32_t stages = shared_address(shared);
  const uint32_t barriers = shared_address(x_scales + args.n_groups * S::kTokens);

  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t lane = thread % 32;
  const int32_t warp = thread / 32;
  const auto first_block = static_cast<int32_t>(blockIdx.x);
  const auto n_blocks = static_cast<int32_t>(cuda_int8::n_blocks(args.n_rows));

  if (kHasBulkCopies && thread == 0) {
    for (int stage = 0; stage < S::kStages; ++stage)
      mbarrier_init(barriers + stage * 8, 1);
    fence_mbarrier_init();
  }
  __syncwarp();
  RoundCursor fill = {first_block, 0};
  for (int stage = 0; stage < S::kStages; ++stage) {
    if (fill.block < n_blocks)
      fill_stage<S>(args, fill, stages + stage * S::kStageBytes, barriers + stage * 8);
    if (!kHasBulkCopies) cp_async_commit();
    fill.advance(args.n_groups, S::kStageUnits);
  }
  // Scales of all tokens, group by group.
  for (int32_t i = thread; i < args.n_tokens * args.n_groups; i += S::kThreads) {
    const int32_t token = i / args.n_groups;
    const int32_t group = i % args.n_groups;
    x_scales[group * S::kTokens + token] = args.x_scales[i];
  }
  __syncthreads();

  float acc[S::kThreadOutputs] = {};
  int32_t stage = 0;
  uint32_t parity = 0;
  int32_t buffer = 0;
  for (RoundCursor at = {first_block, 0}; at.block < n_blocks;
       at.advance(args.n_groups, S::kStageUnits)) {
    const int32_t n_units = min(S::kStageUnits, args.n_groups - at.first_group);
    uint4 b[S::kWarpUnits][S::kTiles][2];
#pragma unroll
    for (int i = 0; i < S::kWarpUnits; ++i) {
      const int32_t unit = min(warp + i * S::kWarps, n_units - 1);
      load_activations<S>(args, at.first_group + unit, lane, b[i]);
    }
    if constexpr (kHasBulkCopies) {
      while (!mbarrier_try_wait(barriers + stage * 8, parity)) {
      }
    } else {
      cp_async_wait<S::kStages - 1>();
      __syncthreads();
    }
    const uint8_t* codes = shared + stage * S::kStageBytes;
    const auto* scales = reinterpret_cast<const uint16_t*>(codes + S::kCodesBytes);
    int32_t* dots = exchange + buffer * S::kExchangeWords;
    auto* weight_scales = reinterpret_cast<float*>(dots + S::kStageUnits * S::kUnitDots);
#pragma unroll
    for (int i = 0; i < S::kWarpUnits; ++i) {
      const int32_t unit = warp + i * S::kWarps;
      if (unit < n_units) {
        multiply_unit<S>(args, codes + unit * S::kUnitBytes, scales + unit * kUnitRows, b[i], lane,
                         dots + unit * S::kUnitDots, weight_scales + unit * kUnitRows);
      }
    }
    __syncthreads();
    if (fill.block < n_blocks)
      fill_stage<S>(args, fill, stages + stage * S::kStageBytes, barriers + stage * 8);
    if (!kHasBulkCopies) cp_async_commit();
    fill.advance(args.n_groups, S::kStageUnits);

#pragma unroll
    for (int i = 0; i < S::kThreadOutputs; ++i) {
      const int32_t token = (thread + i * S::kThreads) / 16;
      const int32_t row = thread % 16;
      if (token >= args.n_tokens) break;
      const float* scale = x_scales + at.first_group * S::kTokens + token;
#pragma unroll 8
      for (int32_t unit = 0; unit < n_units; ++unit) {
        const float dot = dot_to_float(dots[unit * S::kUnitDots + token * S::kTokenStride + row]);
        acc[i] =
            add_group(acc[i], dot, scale[unit * S::kTokens], weight_scales[unit * kUnitRows + row]);
      }
      if (at.first_group + n_units == args.n_groups) {
        const int32_t out_row = at.block * static_cast<int32_t>(kUnitRows) + row;
        if (out_row < args.n_rows) store_output(args, token, out_row, acc[i]);
        acc[i] = 0;
      }
    }
    buffer ^= 1;
    if (++stage == S::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  if constexpr (!kHasBulkCopies) cp_async_wait<0>();
}

template <typename S>
cudaError_t launch_decode(const CudaLaunch& where, const Int8LinearArgs& args,
                          int32_t ctas_per_sm) {
  const int64_t n_blocks = cuda_int8::n_blocks(args.n_rows);
  const int64_t grid =
      n_blocks < ctas_per_sm * int64_t{where.n_sms} ? n_blocks : ctas_per_sm * int64_t{where.n_sms};
  return launch(where, decode_kernel<S>, dim3(static_cast<uint32_t>(grid)), dim3(S::kThreads),
                static_cast<size_t>(
                    int8_decode_shared_bytes(S::kBits, S::kTokens, S::kStages, args.n_groups)),
                args);
}

template <int kBits, int kStages>
cudaError_t launch_tiles(const CudaLaunch& where, const Int8LinearArgs& args, int32_t ctas_per_sm) {
  if (args.n_tokens <= 8)
    return launch_decode<DecodeShape<kBits, 1, 8, 2, kStages>>(where, args, ctas_per_sm);
  if (args.n_tokens <= 16)
    return launch_decode<DecodeShape<kBits, 2, 8, 2, kStages>>(where, args, ctas_per_sm);
  return launch_decode<DecodeShape<kBits, 4, 16, 1, kStages>>(where, args, ctas_per_sm);
}

}  // namespace

cudaError_t int8_linear_decode(const CudaLaunch& launch, const Int8LinearArgs& args,
                               int32_t weight_bits, int32_t stages, int32_t ctas_per_sm) {
  if (weight_bits == 6) {
    return stages == 4 ? launch_tiles<6, 4>(launch, args, ctas_per_sm)
                       : launch_tiles<6, 2>(launch, args, ctas_per_sm);
  }
  return stages == 4 ? launch_tiles<8, 4>(launch, args, ctas_per_sm)
                     : launch_tiles<8, 2>(launch, args, ctas_per_sm);
}

}  // namespace flexq
