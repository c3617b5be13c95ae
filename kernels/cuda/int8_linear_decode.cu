// out[t, n] = sum over groups g ascending of fma((float)dot(t, n, g), sx[t, g] * sw[n, g], acc)
// for at most 16 tokens: the weights are read once, from memory to shared memory in long pieces.
//
// Grid: any number of CTAs; each takes an equal stretch of row blocks (16 rows) and walks it in
// pairs. A round is up to kRoundGroups groups of a pair: one stage of shared memory. Three kinds of
// warps work on different rounds at the same time and meet at mbarriers only:
//   1 warp    fills stages, as far ahead as there are stages: sm_90 by bulk copies, sm_80 by
//   cp.async; 8 warps   multiply: warp w takes group w of the round, both blocks, with
//   mma.m16n8k32: the
//             weights are A straight from the stage, 8 tokens per tile are the columns of B. The
//             exact int32 dots go to one of two buffers;
//   4 warps   add: the thread of an output adds the dots of a buffer to its sum in ascending
//   groups.
// So warps share the groups and yet no float sum is split: the order is the CPU's.
//
// Shared memory: int8_decode_shared_bytes(). The activations stay there for the whole kernel where
// they fit (`resident`); else each stage brings those of its groups. N and K of any size: the
// layout pads both.
#include "kernels/cuda/int8_linear_decode.h"
#include "kernels/cuda/int8_unit.cuh"
#include "kernels/cuda/mma_int8.cuh"

namespace flexq {
namespace {

using cuda_int8::kGroupSize;
using cuda_int8::kUnitRows;

constexpr int32_t kRoundGroups = kInt8DecodeRoundGroups;
constexpr int32_t kRoundBlocks = kInt8DecodeRoundBlocks;
constexpr int32_t kRoundRows = kRoundBlocks * static_cast<int32_t>(kUnitRows);
constexpr int32_t kMultiplyWarps = kRoundGroups;
constexpr int32_t kAddWarps = 4;
constexpr int32_t kThreads = (kMultiplyWarps + kAddWarps + 1) * 32;
constexpr int32_t kUnitScaleBytes = static_cast<int32_t>(kUnitRows) * 2;
// Between the dots of two tokens: 32 rows and 4 words more, so that the 8 x 4 dots which a warp
// writes at once fall into different banks.
constexpr int32_t kTokenDots = kInt8DecodeTokenDots;

template <int kBits_, int kTiles_>
struct DecodeShape {
  static constexpr int kBits = kBits_;
  static constexpr int kTiles = kTiles_;  // of 8 tokens
  static constexpr int kTokens = kTiles * 8;
  static constexpr int kUnitBytes = static_cast<int>(cuda_int8::unit_bytes(kBits));
  static constexpr int kBlockCodes = kRoundGroups * kUnitBytes;
  static constexpr int kCodesBytes = kRoundBlocks * kBlockCodes;
  static constexpr int kBlockScales = kRoundGroups * kUnitScaleBytes;
  static constexpr int kWeightBytes = kCodesBytes + kRoundBlocks * kBlockScales;
  // A buffer: dots (group, token, row), then weight scales (group, row) as fp32.
  static constexpr int kGroupDots = kTokens * kTokenDots;
  static constexpr int kBufferWords = kRoundGroups * (kGroupDots + kRoundRows);
  static constexpr int kThreadOutputs = kTokens * kRoundRows / (kAddWarps * 32);
};

// Where the parts of shared memory start, in bytes.
struct DecodeMap {
  int32_t stage_bytes;
  int32_t token_bytes;  // between two tokens' activations
  int32_t activations;  // of all groups, or in the first stage
  int32_t dots;
  int32_t token_scales;  // (group, token)
  int32_t barriers;
};

struct DecodeArgs {
  Int8LinearArgs linear;
  DecodeMap map;
  int32_t n_stages;
  bool resident;
};

// The rounds of a CTA in order.
struct Rounds {
  int32_t n_groups;
  int32_t end_block;
  int32_t block;
  int32_t first_group = 0;

  __device__ explicit Rounds(const Int8LinearArgs& args) : n_groups(args.n_groups) {
    const auto n_blocks = static_cast<uint32_t>(cuda_int8::n_blocks(args.n_rows));
    block = static_cast<int32_t>(n_blocks * blockIdx.x / gridDim.x);
    end_block = static_cast<int32_t>(n_blocks * (blockIdx.x + 1) / gridDim.x);
  }
  __device__ bool more() const { return block < end_block; }
  __device__ void next() {
    first_group += kRoundGroups;
    if (first_group >= n_groups) {
      first_group = 0;
      block += kRoundBlocks;
    }
  }
  __device__ int32_t groups() const { return min(kRoundGroups, n_groups - first_group); }
  __device__ int32_t blocks() const { return min(kRoundBlocks, end_block - block); }
};

// A ring of stages or buffers: which one is next, and the parity of its phase.
struct RingCursor {
  int32_t index = 0;
  uint32_t parity = 0;

  __device__ void next(int32_t size) {
    if (++index == size) {
      index = 0;
      parity ^= 1;
    }
  }
};

// mbarriers: a stage is full, a stage is empty, a buffer is full, a buffer is empty, the resident
// activations are here.
struct DecodeBarriers {
  uint32_t full;
  uint32_t empty;
  uint32_t dots_full;
  uint32_t dots_empty;
  uint32_t activations;

  __device__ DecodeBarriers(uint32_t shared, const DecodeArgs& args) {
    full = shared + args.map.barriers;
    empty = full + args.n_stages * 8;
    dots_full = empty + args.n_stages * 8;
    dots_empty = dots_full + 16;
    activations = dots_empty + 16;
  }
  __device__ void init(int32_t n_stages) const {
    constexpr uint32_t kFillArrivals = kHasBulkCopies ? 1 : 32;
    for (int32_t stage = 0; stage < n_stages; ++stage) {
      mbarrier_init(full + stage * 8, kFillArrivals);
      mbarrier_init(empty + stage * 8, kMultiplyWarps * 32);
    }
    for (int32_t buffer = 0; buffer < 2; ++buffer) {
      mbarrier_init(dots_full + buffer * 8, kMultiplyWarps * 32);
      mbarrier_init(dots_empty + buffer * 8, kAddWarps * 32);
    }
    mbarrier_init(activations, kFillArrivals);
    fence_mbarrier_init();
  }
};

// --- filling -------------------------------------------------------------------------------------

// Copies into shared memory that one phase of a barrier waits for. All lanes of a warp call it.
__device__ void copy(uint32_t to, const void* from, int32_t bytes, uint32_t barrier) {
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  if constexpr (kHasBulkCopies) {
    if (lane == 0) cp_async_bulk(to, from, bytes, barrier);
  } else {
    for (int32_t i = lane * 16; i < bytes; i += 512)
      cp_async_16(to + i, static_cast<const uint8_t*>(from) + i);
  }
}

// Announces the bytes of the copies that follow.
__device__ void begin_copies(uint32_t barrier, int32_t bytes) {
  if (kHasBulkCopies && threadIdx.x % 32 == 0) mbarrier_arrive_expect(barrier, bytes);
}
__device__ void end_copies(uint32_t barrier) {
  if (!kHasBulkCopies) mbarrier_arrive_after_copies(barrier);
}

__device__ void copy_activations(const DecodeArgs& args, uint32_t to, int32_t first_group,
                                 int32_t n_groups, uint32_t barrier) {
  for (int32_t token = 0; token < args.linear.n_tokens; ++token) {
    const int64_t group = static_cast<int64_t>(token) * args.linear.n_groups + first_group;
    copy(to + token * args.map.token_bytes, args.linear.x_codes + group * kGroupSize,
         n_groups * static_cast<int32_t>(kGroupSize), barrier);
  }
}

template <typename S>
__device__ void fill(const DecodeArgs& args, uint32_t shared, const DecodeBarriers& barriers) {
  const Int8LinearArgs& linear = args.linear;
  RingCursor ring;
  bool first_lap = true;
  for (Rounds round(linear); round.more(); round.next()) {
    const uint32_t stage = shared + ring.index * args.map.stage_bytes;
    const uint32_t full = barriers.full + ring.index * 8;
    if (!first_lap) mbarrier_wait(barriers.empty + ring.index * 8, ring.parity ^ 1);
    const int32_t n_groups = round.groups();
    const int32_t n_blocks = round.blocks();
    const int32_t codes_bytes = n_groups * S::kUnitBytes;
    const int32_t scales_bytes = n_groups * kUnitScaleBytes;
    const int32_t x_bytes =
        args.resident ? 0 : linear.n_tokens * n_groups * static_cast<int32_t>(kGroupSize);
    begin_copies(full, n_blocks * (codes_bytes + scales_bytes) + x_bytes);
    for (int32_t i = 0; i < n_blocks; ++i) {
      const int64_t unit =
          static_cast<int64_t>(round.block + i) * linear.n_groups + round.first_group;
      copy(stage + i * S::kBlockCodes, linear.codes + unit * S::kUnitBytes, codes_bytes, full);
      copy(stage + S::kCodesBytes + i * S::kBlockScales, linear.scales + unit * kUnitRows,
           scales_bytes, full);
    }
    if (!args.resident)
      copy_activations(args, stage + S::kWeightBytes, round.first_group, n_groups, full);
    end_copies(full);
    if (first_lap && args.resident && ring.index == 0) {
      begin_copies(barriers.activations,
                   linear.n_tokens * linear.n_groups * static_cast<int32_t>(kGroupSize));
      copy_activations(args, shared + args.map.activations, 0, linear.n_groups,
                       barriers.activations);
      end_copies(barriers.activations);
    }
    ring.next(args.n_stages);
    if (ring.index == 0) first_lap = false;
  }
}

// --- multiplying ---------------------------------------------------------------------------------

// The dots of one unit, from where the lane's first one goes.
template <typename S>
__device__ void multiply_unit(const uint32_t (&a)[16], const uint4 (&b)[S::kTiles][2],
                              int32_t (&dots)[S::kTiles][4]) {
  constexpr int32_t kZero[4] = {kDotZeroBits, kDotZeroBits, kDotZeroBits, kDotZeroBits};
#pragma unroll
  for (int tile = 0; tile < S::kTiles; ++tile) {
    const uint4 low = b[tile][0];
    const uint4 high = b[tile][1];
    mma_m16n8k32_s8(dots[tile], a, low.x, low.y, kZero);
    mma_m16n8k32_s8(dots[tile], a + 4, low.z, low.w, dots[tile]);
    mma_m16n8k32_s8(dots[tile], a + 8, high.x, high.y, dots[tile]);
    mma_m16n8k32_s8(dots[tile], a + 12, high.z, high.w, dots[tile]);
  }
}

template <typename S>
__device__ void multiply(const DecodeArgs& args, const uint8_t* shared, int32_t* buffers,
                         const DecodeBarriers& barriers, int32_t warp) {
  const Int8LinearArgs& linear = args.linear;
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  // Columns of B past the last token repeat it; nobody reads their dots.
  int32_t token_offset[S::kTiles];
#pragma unroll
  for (int tile = 0; tile < S::kTiles; ++tile)
    token_offset[tile] = min(tile * 8 + lane / 4, linear.n_tokens - 1) * args.map.token_bytes +
                         lane % 4 * 32 + warp * static_cast<int32_t>(kGroupSize);
  if (args.resident) mbarrier_wait(barriers.activations, 0);

  RingCursor stages;
  RingCursor dots_ring;
  bool first_lap = true;
  for (Rounds round(linear); round.more(); round.next()) {
    const uint8_t* stage = shared + stages.index * args.map.stage_bytes;
    const bool has_group = warp < round.groups();
    const int32_t n_blocks = round.blocks();
    int32_t dots[kRoundBlocks][S::kTiles][4];
    float scales[kRoundBlocks];
    mbarrier_wait(barriers.full + stages.index * 8, stages.parity);
    if (has_group) {
      const uint8_t* x = args.resident
                             ? shared + args.map.activations + round.first_group * kGroupSize
                             : stage + S::kWeightBytes;
      uint4 b[S::kTiles][2];
#pragma unroll
      for (int tile = 0; tile < S::kTiles; ++tile) {
        const auto* codes = reinterpret_cast<const uint4*>(x + token_offset[tile]);
        b[tile][0] = codes[0];
        b[tile][1] = codes[1];
      }
#pragma unroll
      for (int i = 0; i < kRoundBlocks; ++i) {
        if (i >= n_blocks) break;
        uint32_t a[16];
        load_unit<S::kBits>(stage + i * S::kBlockCodes + warp * S::kUnitBytes, lane, a);
        const auto* halves =
            reinterpret_cast<const uint16_t*>(stage + S::kCodesBytes + i * S::kBlockScales) +
            warp * kUnitRows;
        scales[i] = weight_scale(halves[lane % 16], linear.multiplier);
        multiply_unit<S>(a, b, dots[i]);
      }
    }
    mbarrier_arrive(barriers.empty + stages.index * 8);

    if (!first_lap) mbarrier_wait(barriers.dots_empty + dots_ring.index * 8, dots_ring.parity ^ 1);
    if (has_group) {
      int32_t* buffer = buffers + dots_ring.index * S::kBufferWords;
      auto* weight_scales = reinterpret_cast<float*>(buffer + kRoundGroups * S::kGroupDots);
      int32_t* to = buffer + warp * S::kGroupDots + lane % 4 * 2 * kTokenDots + lane / 4;
#pragma unroll
      for (int i = 0; i < kRoundBlocks; ++i) {
        if (i >= n_blocks) break;
        if (lane < kUnitRows)
          weight_scales[warp * kRoundRows + i * static_cast<int32_t>(kUnitRows) + lane] = scales[i];
#pragma unroll
        for (int tile = 0; tile < S::kTiles; ++tile) {
          int32_t* first = to + tile * 8 * kTokenDots + i * static_cast<int32_t>(kUnitRows);
          first[0] = dots[i][tile][0];
          first[kTokenDots] = dots[i][tile][1];
          first[8] = dots[i][tile][2];
          first[kTokenDots + 8] = dots[i][tile][3];
        }
      }
    }
    mbarrier_arrive(barriers.dots_full + dots_ring.index * 8);
    stages.next(args.n_stages);
    dots_ring.next(2);
    if (dots_ring.index == 0) first_lap = false;
  }
}

// --- adding --------------------------------------------------------------------------------------

template <typename S>
__device__ void add(const DecodeArgs& args, const int32_t* buffers, const float* token_scales,
                    const DecodeBarriers& barriers, int32_t warp) {
  const Int8LinearArgs& linear = args.linear;
  const auto row = static_cast<int32_t>(threadIdx.x) % kRoundRows;  // one token per warp
  float acc[S::kThreadOutputs] = {};
  RingCursor ring;
  for (Rounds round(linear); round.more(); round.next()) {
    mbarrier_wait(barriers.dots_full + ring.index * 8, ring.parity);
    const int32_t n_groups = round.groups();
    const int32_t* dots = buffers + ring.index * S::kBufferWords;
    const auto* weight_scales =
        reinterpret_cast<const float*>(dots + kRoundGroups * S::kGroupDots) + row;
#pragma unroll
    for (int i = 0; i < S::kThreadOutputs; ++i) {
      const int32_t token = warp + i * kAddWarps;
      if (token >= linear.n_tokens) break;
      const int32_t* dot = dots + token * kTokenDots + row;
      const float* x_scale = token_scales + round.first_group * S::kTokens + token;
      const auto add_one = [&](int32_t g) {
        acc[i] = add_group(acc[i], dot_to_float(dot[g * S::kGroupDots]), x_scale[g * S::kTokens],
                           weight_scales[g * kRoundRows]);
      };
      if (n_groups == kRoundGroups) {
#pragma unroll
        for (int32_t g = 0; g < kRoundGroups; ++g)
          add_one(g);
      } else {
        for (int32_t g = 0; g < n_groups; ++g)
          add_one(g);
      }
      if (round.first_group + n_groups == linear.n_groups) {
        const int32_t out_row = round.block * static_cast<int32_t>(kUnitRows) + row;
        const int32_t end_row =
            min(round.end_block * static_cast<int32_t>(kUnitRows), linear.n_rows);
        if (out_row < end_row) store_output(linear, token, out_row, acc[i]);
        acc[i] = 0;
      }
    }
    mbarrier_arrive(barriers.dots_empty + ring.index * 8);
    ring.next(2);
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads, 1) decode_kernel(const DecodeArgs args) {
  extern __shared__ __align__(128) uint8_t shared[];
  auto* buffers = reinterpret_cast<int32_t*>(shared + args.map.dots);
  auto* token_scales = reinterpret_cast<float*>(shared + args.map.token_scales);
  const DecodeBarriers barriers(shared_address(shared), args);
  const Int8LinearArgs& linear = args.linear;
  if (threadIdx.x == 0) barriers.init(args.n_stages);
  for (auto i = static_cast<int32_t>(threadIdx.x); i < linear.n_tokens * linear.n_groups;
       i += kThreads)
    token_scales[i % linear.n_groups * S::kTokens + i / linear.n_groups] = linear.x_scales[i];
  __syncthreads();

  const auto warp = static_cast<int32_t>(threadIdx.x) / 32;
  if (warp < kMultiplyWarps) {
    multiply<S>(args, shared, buffers, barriers, warp);
  } else if (warp < kMultiplyWarps + kAddWarps) {
    add<S>(args, buffers, token_scales, barriers, warp - kMultiplyWarps);
  } else {
    fill<S>(args, shared_address(shared), barriers);
  }
}

template <typename S>
cudaError_t launch_decode(const CudaLaunch& where, const Int8LinearArgs& linear, int32_t n_stages,
                          bool resident) {
  static_assert(S::kThreadOutputs * kAddWarps * 32 == S::kTokens * kRoundRows,
                "every output of a round has a thread");
  const auto tokens = int8_decode_tile_tokens(linear.n_tokens);
  DecodeArgs args;
  args.linear = linear;
  args.n_stages = n_stages;
  args.resident = resident;
  DecodeMap& map = args.map;
  map.token_bytes =
      static_cast<int32_t>(int8_decode_token_bytes(resident ? linear.n_groups : kRoundGroups));
  map.stage_bytes =
      static_cast<int32_t>(int8_decode_stage_bytes(S::kBits, linear.n_tokens, resident));
  map.activations = n_stages * map.stage_bytes;
  map.dots = map.activations + (resident ? linear.n_tokens * map.token_bytes : 0);
  map.token_scales = map.dots + 2 * S::kBufferWords * 4;
  map.barriers = map.token_scales + linear.n_groups * static_cast<int32_t>(tokens) * 4;

  const int64_t n_blocks = cuda_int8::n_blocks(linear.n_rows);
  const auto grid = static_cast<uint32_t>(n_blocks < where.n_sms ? n_blocks : where.n_sms);
  return launch(where, decode_kernel<S>, dim3(grid), dim3(kThreads),
                static_cast<size_t>(int8_decode_shared_bytes(S::kBits, linear.n_tokens, n_stages,
                                                             linear.n_groups, resident)),
                args);
}

template <int kBits>
cudaError_t launch_tiles(const CudaLaunch& where, const Int8LinearArgs& args, int32_t n_stages,
                         bool resident) {
  if (args.n_tokens <= 8)
    return launch_decode<DecodeShape<kBits, 1>>(where, args, n_stages, resident);
  return launch_decode<DecodeShape<kBits, 2>>(where, args, n_stages, resident);
}

}  // namespace

cudaError_t int8_linear_decode(const CudaLaunch& launch, const Int8LinearArgs& args,
                               int32_t weight_bits, int32_t n_stages, bool resident) {
  return weight_bits == 6 ? launch_tiles<6>(launch, args, n_stages, resident)
                          : launch_tiles<8>(launch, args, n_stages, resident);
}

}  // namespace flexq
