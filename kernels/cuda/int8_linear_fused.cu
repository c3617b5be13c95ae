// out[t, n] = sum over groups g ascending of fma((float)dot(t, n, g), sx[t, g] * sw[n, g], acc),
// for 1 to 8 tokens and 1 to 3 matrices that share their input, with what comes before it (RMSNorm
// and quantization, for one token) and after it (bias, residual, silu(gate) * up) in the same
// kernel. Made for a chain of kernels launched with overlap: two CTAs fit a multiprocessor, and the
// ring of weights is filled before the wait for the kernel before, half of it after the wait where
// a row is normalized (kFusedLateStages).
//
// Grid: at most one CTA per multiprocessor; each takes an equal stretch of row blocks (16 rows), or
// of pairs of a gate and an up block. A round is a share of at most kRoundGroups groups of a block.
// Where that makes the longest stretch shorter, two CTAs are a cluster and share a pair: the first
// multiplies its gate block and sends the 16 gates to the second, which multiplies the up block.
//   8 warps  multiply: each fills a ring of its own with its share of the groups of every round, by
//            bulk copies of whole pieces, and leaves exact int32 dots and the scales of the weights
//            in one of two buffers. mma.m16n8k32: weights are A, tokens the columns of B;
//   others   add: the thread of an output adds the dots of a buffer to its sum in ascending groups.
// They meet at mbarriers. No float sum is split, so the bits are those of the CPU and of every
// other kernel. Dynamic shared memory: fused_shared_bytes(). N and K of any size: the layout pads
// both.
#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/fused_linear_input.cuh"
#include "kernels/cuda/fused_linear_walk.cuh"
#include "kernels/cuda/int8_unit.cuh"
#include "kernels/cuda/mma_int8.cuh"
#include "kernels/cuda/programmatic_launch.cuh"
#include "kernels/cuda/silu.cuh"

namespace flexq {
namespace {

// --- multiplying ---------------------------------------------------------------------------------

// Starts the copies of a warp's piece of a round into a stage. One lane.
template <typename S>
__device__ inline void fill(const Walk& walk, int32_t warp, uint32_t stage, uint32_t full) {
  const Piece piece(walk, warp);
  mbarrier_arrive_expect(full, piece.n * (S::kUnitBytes + kUnitScaleBytes));
  if (piece.n == 0) return;
  const FusedPart& part = walk.args.parts[walk.part];
  const int64_t unit = int64_t{walk.block} * walk.args.n_groups + piece.first;
  cp_async_bulk(stage, part.codes + unit * S::kUnitBytes, piece.n * S::kUnitBytes, full);
  cp_async_bulk(stage + S::kPieceCodes, part.scales + unit * kUnitRows, piece.n * kUnitScaleBytes,
                full);
}

// A warp's ring of pieces.
template <typename S>
struct Ring {
  Walk ahead;  // the next piece to copy
  const int32_t warp;
  const uint8_t* stages;
  uint32_t full;
  int32_t index = 0;
  uint32_t parity = 0;

  __device__ Ring(const Walk& start, const uint8_t* shared, int32_t own_warp,
                  const FusedBarriers& barriers)
      : ahead(start),
        warp(own_warp),
        stages(shared + own_warp * kFusedStages * S::kPieceBytes),
        full(barriers.full + own_warp * kFusedStages * 8) {}
  __device__ const uint8_t* stage() const { return stages + index * S::kPieceBytes; }
  // The next piece into a stage that all lanes are done with.
  __device__ void refill(int32_t i) {
    if (ahead.more() && threadIdx.x % 32 == 0)
      fill<S>(ahead, warp, shared_address(stages + i * S::kPieceBytes), full + i * 8);
    ahead.next();
  }
  __device__ void next() {
    if (++index < kFusedStages) return;
    index = 0;
    parity ^= 1;
  }
};

template <typename S>
__device__ inline void multiply(const FusedArgs& args, const Walk& start, Ring<S>& ring,
                                const uint8_t* activations, uint8_t* buffers,
                                const FusedBarriers& barriers) {
  constexpr int32_t kZero[4] = {kDotZeroBits, kDotZeroBits, kDotZeroBits, kDotZeroBits};
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  const int32_t quarter = lane % 4;
  const int32_t row = lane / 4;
  // Columns of B past the last token repeat it; nobody reads their dots.
  const int32_t token = S::kTokens == 1 ? 0 : min(row, args.n_tokens - 1);
  const uint8_t* x = activations + token * args.token_bytes + quarter * 32;

  int32_t buffer = 0;
  uint32_t empty_parity = 1;  // of the phase before the first: over
  for (Walk walk = start; walk.more(); walk.next()) {
    const Piece piece(walk, ring.warp);
    const uint8_t* stage = ring.stage();
    int32_t dots[S::kPieceGroups][4];
    uint32_t scales = 0;
    mbarrier_wait(ring.full + ring.index * 8, ring.parity);
    if (lane < piece.n * (kRows / 2))
      scales = reinterpret_cast<const uint32_t*>(stage + S::kPieceCodes)[lane];
      // All groups of a whole piece, without branches, so that they overlap; what a smaller piece
      // has too many of is stale, and its dots go nowhere.
#pragma unroll
    for (int32_t i = 0; i < S::kPieceGroups; ++i) {
      uint32_t a[16];
      load_unit<S::kBits>(stage + i * S::kUnitBytes, lane, a);
      const int32_t group = min(piece.first + i, args.n_groups - 1);
      const auto* codes = reinterpret_cast<const uint4*>(x + group * kGroupSize);
      const uint4 low = codes[0];
      const uint4 high = codes[1];
      mma_m16n8k32_s8(dots[i], a, low.x, low.y, kZero);
      mma_m16n8k32_s8(dots[i], a + 4, low.z, low.w, dots[i]);
      mma_m16n8k32_s8(dots[i], a + 8, high.x, high.y, dots[i]);
      mma_m16n8k32_s8(dots[i], a + 12, high.z, high.w, dots[i]);
    }
    __syncwarp();
    ring.refill(ring.index);
    ring.next();

    mbarrier_wait(barriers.dots_empty + buffer * 8, empty_parity);
    auto* to = reinterpret_cast<int32_t*>(buffers + buffer * S::kBufferBytes);
    const int32_t local = piece.first - walk.first;
    if (lane < piece.n * (kRows / 2)) {
      reinterpret_cast<uint32_t*>(to + S::kRoundGroups *
                                           S::kGroupDots)[local * (kRows / 2) + lane] = scales;
    }
#pragma unroll
    for (int32_t i = 0; i < S::kPieceGroups; ++i) {
      if (i >= piece.n) break;
      int32_t* first = to + (local + i) * S::kGroupDots + row;
      if constexpr (S::kTokens == 1) {
        if (quarter == 0) {
          first[0] = dots[i][0];
          first[8] = dots[i][2];
        }
      } else {
        first += quarter * 2 * S::kTokenDots;
        first[0] = dots[i][0];
        first[S::kTokenDots] = dots[i][1];
        first[8] = dots[i][2];
        first[S::kTokenDots + 8] = dots[i][3];
      }
    }
    __syncwarp();
    mbarrier_arrive(barriers.dots_full + buffer * 8);
    buffer ^= 1;
    if (buffer == 0) empty_parity ^= 1;
  }
}

// --- adding --------------------------------------------------------------------------------------

// One output of a thread after the other. What they are made of is fetched two blocks ahead: when
// the next kernel fills its ring, what is asked for comes after 100 KB of weights.
struct FusedOutput {
  float* out = nullptr;  // null: not an output of the matrix
  float bias = 0;
  float residual = 0;
  float next_residual = 0;
  float gate = 0;  // of kSiluMul: the gate's output, until up's is there

  // Of kAdd, where blocks follow each other from part to part.
  __device__ static float residual_of(const FusedArgs& args, int32_t part_index, int32_t block,
                                      int32_t row, int32_t token) {
    if (args.store != CudaStore::kAdd) return 0;
    const bool next_part = block == args.parts[part_index].n_blocks;
    const FusedPart& part = args.parts[part_index + (next_part ? 1 : 0)];
    const int32_t out_row = (next_part ? 0 : block) * kRows + row;
    return out_row < part.n_rows ? __ldcg(part.out + token * part.out_stride + out_row) : 0;
  }
  __device__ FusedOutput(const FusedArgs& args, const Walk& start, int32_t row, int32_t token)
      : next_residual(residual_of(args, start.part, start.block, row, token)) {}
  __device__ void begin(const FusedArgs& args, const Walk& walk, int32_t row, int32_t token) {
    const FusedPart& part = args.parts[walk.part];
    const int32_t out_row = walk.block * kRows + row;
    residual = next_residual;
    if (walk.n_left > 1) next_residual = residual_of(args, walk.part, walk.block + 1, row, token);
    out = nullptr;
    if (out_row >= part.n_rows) return;
    out = part.out + token * part.out_stride + out_row;
    if (part.bias != nullptr) bias = part.bias[out_row];
  }
  // Bias and store, in the contract's order.
  __device__ void end(const FusedArgs& args, const Walk& walk, int32_t row, int32_t token,
                      float acc) {
    if (out == nullptr) return;
    if (args.parts[walk.part].bias != nullptr) acc = __fadd_rn(acc, bias);
    if (args.store == CudaStore::kAdd) {
      *out = __fadd_rn(residual, acc);
    } else if (args.store == CudaStore::kSet) {
      *out = acc;
    } else if (walk.part == 0) {
      gate = acc;
    } else {
      args.parts[0].out[token * args.parts[0].out_stride + walk.block * kRows + row] =
          silu_times(gate, acc);
    }
  }
};

template <typename S>
__device__ inline void add(const FusedArgs& args, const Walk& start, const uint8_t* buffers,
                           const float* token_scales, float* gates, const FusedBarriers& barriers) {
  const int32_t thread = static_cast<int32_t>(threadIdx.x) - kMultiplyThreads;
  const int32_t row = thread % kRows;
  const int32_t token = S::kTokens == 1 ? 0 : thread / kRows;
  const bool has_output = S::kTokens == 1 ? thread < kRows : token < args.n_tokens;
  FusedOutput output(args, start, row, has_output ? token : 0);
  float acc = 0;
  int32_t buffer = 0;
  uint32_t parity = 0;
  int32_t n_left = start.n_left * args.n_rounds;
  for (Walk walk = start; walk.more(); walk.next()) {
    if (n_left-- == args.last_rounds + 1) let_next_kernel_start();
    if (walk.round == 0 && has_output) output.begin(args, walk, row, token);
    const int32_t n = walk.n_groups;
    const float multiplier = args.parts[walk.part].multiplier;
    mbarrier_wait(barriers.dots_full + buffer * 8, parity);
    if (has_output) {
      const auto* dots = reinterpret_cast<const int32_t*>(buffers + buffer * S::kBufferBytes);
      const auto* halves =
          reinterpret_cast<const uint16_t*>(dots + S::kRoundGroups * S::kGroupDots) + row;
      dots += token * S::kTokenDots + row;
      const float* x_scales = token_scales + walk.first * S::kTokens + token;
#pragma unroll 8
      for (int32_t g = 0; g < n; ++g) {
        acc = add_group(acc, dot_to_float(dots[g * S::kGroupDots]), x_scales[g * S::kTokens],
                        weight_scale(halves[g * kRows], multiplier));
      }
    }
    __syncwarp();
    mbarrier_arrive(barriers.dots_empty + buffer * 8);
    if (walk.ends_block()) {
      if (walk.shares() && walk.part == 1) {
        mbarrier_wait(barriers.gates, 0);
        output.gate = gates[row];
      }
      if (has_output) output.end(args, walk, row, token, acc);
      if (walk.shares() && walk.part == 0 && has_output)
        store_shared_at(shared_address(gates + row), output.gate, barriers.gates, 1);
      acc = 0;
    }
    buffer ^= 1;
    if (buffer == 0) parity ^= 1;
  }
}

template <typename S, FusedInput kInput>
__global__ void __launch_bounds__(S::kThreads, 2)
    fused_kernel(const __grid_constant__ FusedArgs args) {
  extern __shared__ __align__(128) uint8_t shared[];
  uint8_t* buffers = shared + kFusedWarps * kFusedStages * S::kPieceBytes;
  uint8_t* activations = shared + args.activations;
  auto* token_scales = reinterpret_cast<float*>(shared + args.token_scales);
  auto* gates = reinterpret_cast<float*>(shared + args.gates);
  const FusedBarriers barriers(shared_address(shared) + args.barriers);
  const auto warp = static_cast<int32_t>(threadIdx.x) / 32;
  const bool multiplies = warp < kFusedWarps;
  const Walk start(args);
  Ring<S> ring(start, shared, warp, barriers);
  if (multiplies) {
    if (threadIdx.x % 32 == 0) {
      for (int32_t i = 0; i < kFusedStages; ++i)
        mbarrier_init(ring.full + i * 8, 1);
      fence_mbarrier_init();
    }
    __syncwarp();
    if (args.n_cluster == 2) cluster_arrive();
    constexpr bool kNorms = kInput == FusedInput::kNorm || kInput == FusedInput::kWideNorm;
    constexpr int32_t kEarlyStages = kFusedStages - (kNorms ? kFusedLateStages : 0);
#pragma unroll
    for (int32_t i = 0; i < kEarlyStages; ++i)
      ring.refill(i);
    const CudaQuantized quantized = {reinterpret_cast<int8_t*>(activations), token_scales,
                                     CodesOrder::kNatural};
    if constexpr (kNorms) {
      const auto fill_late_stages = [&] {
#pragma unroll
        for (int32_t i = kEarlyStages; i < kFusedStages; ++i)
          ring.refill(i);
      };
      normalize_rows<kInput == FusedInput::kNorm ? 1 : 2>(
          args, warp, reinterpret_cast<float*>(shared + args.warp_sums), fill_late_stages,
          quantized);
    } else if constexpr (kInput == FusedInput::kRows) {
      quantize_rows(args, warp, quantized);
    } else {
      copy_codes<S>(args, activations, token_scales);
    }
  } else {
    if (threadIdx.x == kMultiplyThreads) {
      for (int32_t i = 0; i < 2; ++i) {
        mbarrier_init(barriers.dots_full + i * 8, kMultiplyThreads);
        mbarrier_init(barriers.dots_empty + i * 8, S::kAddThreads);
      }
      mbarrier_init(barriers.gates, 1);
      fence_mbarrier_init();
      if (start.shared_block >= 0 && start.rank() == 1)
        mbarrier_arrive_expect(barriers.gates, kRows * sizeof(float));
    }
    __syncwarp();
    if (args.n_cluster == 2) cluster_arrive();
    wait_for_kernel_before();
    if (start.n_left * args.n_rounds <= args.last_rounds) let_next_kernel_start();
  }
  __syncthreads();
  if (args.n_cluster == 2) cluster_wait();  // the other CTA has begun
  if (multiplies) {
    multiply<S>(args, start, ring, activations, buffers, barriers);
  } else {
    add<S>(args, start, buffers, token_scales, gates, barriers);
  }
}

template <typename S, FusedInput kInput>
cudaError_t launch_fused(const CudaLaunch& where, FusedArgs args) {
  args.n_rounds = (args.n_groups + S::kRoundGroups - 1) / S::kRoundGroups;
  args.longest_share = (args.n_groups + args.n_rounds - 1) / args.n_rounds;
  args.n_longest = args.n_groups - (args.longest_share - 1) * args.n_rounds;
  args.token_bytes = static_cast<int32_t>(fused_token_bytes(args.n_groups, S::kTokens));
  args.activations = kFusedWarps * kFusedStages * S::kPieceBytes + 2 * S::kBufferBytes;
  args.token_scales = args.activations + args.n_tokens * args.token_bytes;
  args.warp_sums = args.token_scales + (args.n_groups * S::kTokens + 3) / 4 * 16;
  args.gates = args.warp_sums + 32 * 4;
  args.barriers = args.gates + kRows * 4;
  const int32_t n_turns = args.store == CudaStore::kSiluMul ? args.n_blocks / 2 : args.n_blocks;
  const int32_t grid = n_turns < where.n_sms ? n_turns : where.n_sms;
  args.n_cluster =
      S::kTokens == 1 && args.store == CudaStore::kSiluMul ? fused_pair_cluster(n_turns, grid) : 1;
  const int32_t turn_rounds = (args.store == CudaStore::kSiluMul ? 2 : 1) * args.n_rounds;
  args.last_rounds =
      fused_last_rounds(S::kBits, args.longest_share, n_turns / grid * turn_rounds, args.store);
  const int64_t shared_bytes =
      fused_launch_bytes(S::kBits, args.n_tokens, args.n_groups, args.store);
  return launch_overlapping_clusters(where, static_cast<uint32_t>(args.n_cluster),
                                     fused_kernel<S, kInput>, dim3(static_cast<uint32_t>(grid)),
                                     dim3(S::kThreads), static_cast<size_t>(shared_bytes), args);
}

FusedArgs arguments_of(std::span<const CudaLinearPart> parts, int64_t n_tokens, CudaStore store) {
  FusedArgs args = {};
  args.n_parts = static_cast<int32_t>(parts.size());
  args.n_groups = static_cast<int32_t>(cuda_int8::n_groups(parts.front().w.cols));
  args.n_tokens = static_cast<int32_t>(n_tokens);
  args.store = store;
  args.n_cols = static_cast<int32_t>(parts.front().w.cols);
  for (int32_t i = 0; i < args.n_parts; ++i) {
    const CudaLinearPart& from = parts[static_cast<size_t>(i)];
    FusedPart& to = args.parts[i];
    to.codes = from.w.values;
    to.scales = reinterpret_cast<const uint16_t*>(from.w.scales);
    to.bias = from.bias;
    to.out = from.out.data;
    to.out_stride = from.out.stride;
    // 6-bit codes enter the products as 4 * q; a quarter of a power of two is exact.
    to.multiplier = from.w.scale_multiplier * (weight_bits(from.w.format) == 6 ? 0.25f : 1.0f);
    to.n_rows = static_cast<int32_t>(from.w.rows);
    to.n_blocks = static_cast<int32_t>(cuda_int8::n_blocks(from.w.rows));
    args.n_blocks += to.n_blocks;
  }
  return args;
}

template <int kBits>
cudaError_t launch_source(const CudaLaunch& where, const FusedArgs& args) {
  using S = FusedShape<kBits, 1>;
  if (args.norm == nullptr) return launch_fused<S, FusedInput::kRows>(where, args);
  return args.n_cols <= kLapColumns ? launch_fused<S, FusedInput::kNorm>(where, args)
                                    : launch_fused<S, FusedInput::kWideNorm>(where, args);
}

template <int kBits>
cudaError_t launch_codes(const CudaLaunch& where, const FusedArgs& args) {
  return args.n_tokens == 1 ? launch_fused<FusedShape<kBits, 1>, FusedInput::kCodes>(where, args)
                            : launch_fused<FusedShape<kBits, 8>, FusedInput::kCodes>(where, args);
}

}  // namespace

cudaError_t cuda_linear_fused(const CudaLaunch& launch, std::span<const CudaLinearPart> parts,
                              const CudaSource& x, int32_t bits, CudaStore store) {
  FusedArgs args = arguments_of(parts, 1, store);
  args.x_row = x.row;
  args.norm = x.norm;
  args.eps = x.eps;
  args.code_max = code_max_of(bits);
  return weight_bits(parts.front().w.format) == 6 ? launch_source<6>(launch, args)
                                                  : launch_source<8>(launch, args);
}

cudaError_t cuda_linear_fused(const CudaLaunch& launch, std::span<const CudaLinearPart> parts,
                              const CudaQuantized& x, int64_t n_tokens, CudaStore store) {
  FusedArgs args = arguments_of(parts, n_tokens, store);
  args.x_codes = x.codes;
  args.x_scales = x.scales;
  return weight_bits(parts.front().w.format) == 6 ? launch_codes<6>(launch, args)
                                                  : launch_codes<8>(launch, args);
}

}  // namespace flexq
