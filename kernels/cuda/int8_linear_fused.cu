// out[t, n] = sum over groups g ascending of fma((float)dot(t, n, g), sx[t, g] * sw[n, g], acc),
// for 1 to 8 tokens and 1 to 3 matrices that share their input, with what comes before it (RMSNorm
// and quantization, for one token) and after it (bias, residual, silu(gate) * up) in the same
// kernel. Made for a chain of kernels launched with overlap: two CTAs fit a multiprocessor, and the
// ring of weights is filled before the wait for the kernel before.
//
// Grid: at most one CTA per multiprocessor; each takes an equal stretch of row blocks (16 rows), or
// of pairs of a gate and an up block. A round is a share of at most kRoundGroups groups of a block.
// Where that makes the longest stretch shorter, two CTAs are a cluster and share a pair: the first
// multiplies its gate block and sends the 16 sums to the second, which has multiplied the up block.
//   8 warps  multiply: each fills a ring of its own with its share of the groups of every round, by
//            bulk copies of whole pieces, and leaves exact int32 dots and the scales of the weights
//            in one of two buffers. mma.m16n8k32: weights are A, tokens the columns of B;
//   others   add: the thread of an output adds the dots of a buffer to its sum in ascending groups.
// They meet at mbarriers. No float sum is split, so the bits are those of the CPU and of every
// other kernel. Dynamic shared memory: fused_shared_bytes(). N and K of any size: the layout pads
// both.
#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/fused_linear_shape.h"
#include "kernels/cuda/int8_unit.cuh"
#include "kernels/cuda/mma_int8.cuh"
#include "kernels/cuda/programmatic_launch.cuh"
#include "kernels/cuda/row_quantizer.cuh"
#include "kernels/cuda/silu.cuh"

namespace flexq {
namespace {

using cuda_int8::kUnitRows;

constexpr int32_t kRows = static_cast<int32_t>(kUnitRows);
constexpr int32_t kMultiplyThreads = kFusedWarps * 32;
constexpr int32_t kGroupColumns = static_cast<int32_t>(kGroupSize);
constexpr int32_t kUnitScaleBytes = kRows * 2;

// What the kernel does ahead of the products.
enum class FusedInput { kCodes, kRows, kNorm, kWideNorm };
// Columns that kNorm takes in: a quad of every thread of rms_norm_quantize_kernel.
constexpr int64_t kLapColumns = int64_t{kMostNormThreads} * kQuad;
static_assert(kFusedNormColumns == 2 * kLapColumns, "kWideNorm goes two laps");

template <int kBits_, int kTokens_>
struct FusedShape {
  static constexpr int kBits = kBits_;
  static constexpr int kTokens = kTokens_;  // columns of B that are looked at
  static constexpr int kUnitBytes = static_cast<int>(cuda_int8::unit_bytes(kBits));
  static constexpr int kPieceGroups = fused_piece_groups(kBits, kTokens);
  static constexpr int kPieceCodes = kPieceGroups * kUnitBytes;
  static constexpr int kPieceBytes = static_cast<int>(fused_piece_bytes(kBits, kTokens));
  static constexpr int kRoundGroups = fused_round_groups(kBits, kTokens);
  static constexpr int kTokenDots = fused_token_dots(kTokens);
  static constexpr int kGroupDots = kTokens * kTokenDots;
  static constexpr int kBufferBytes = static_cast<int>(fused_buffer_bytes(kBits, kTokens));
  static constexpr int kAddThreads = kTokens == 1 ? 32 : kTokens * kRows;
  static constexpr int kThreads = kMultiplyThreads + kAddThreads;
  static_assert(kPieceGroups * kRows / 2 <= 32, "a lane copies one pair of scales of a piece");
};

struct FusedPart {
  const uint8_t* codes;
  const uint16_t* scales;
  const float* bias;
  float* out;
  int64_t out_stride;
  float multiplier;
  int32_t n_rows;
  int32_t n_blocks;
};

struct FusedArgs {
  FusedPart parts[kMaxLinearParts];
  int32_t n_parts;
  int32_t n_blocks;  // of all parts; two of each pair for kSiluMul
  int32_t n_groups;
  int32_t n_cluster;      // CTAs that share pairs: 1 or 2
  int32_t n_rounds;       // of a block
  int32_t longest_share;  // groups of its first n_longest rounds; the others have one less
  int32_t n_longest;
  int32_t n_tokens;
  CudaStore store;
  // The input: codes and scales, or a row of n_cols floats.
  const int8_t* x_codes;
  const float* x_scales;
  const float* x_row;
  const float* norm;
  int32_t n_cols;
  float eps;
  int32_t code_max;
  // Bytes into shared memory.
  int32_t token_bytes;
  int32_t activations;
  int32_t token_scales;
  int32_t warp_sums;
  int32_t gates;
  int32_t barriers;
  int32_t last_rounds;  // the next kernel may start when so many are left to add
};

// The rounds of a CTA in order, and where each is. Groups are shared among the rounds of a block as
// evenly as can be, the longer shares first.
struct Walk {
  const FusedArgs& args;
  int32_t n_left;  // blocks
  int32_t part = 0;
  int32_t block;  // of the part
  int32_t round = 0;
  int32_t first = 0;  // group
  int32_t n_groups;
  int32_t shared_block = -1;  // of the pair whose other block is the other CTA's: comes last

  __device__ explicit Walk(const FusedArgs& a) : args(a), n_groups(a.longest_share) {
    const uint32_t team = blockIdx.x >> (a.n_cluster - 1);
    const uint32_t n_teams = gridDim.x >> (a.n_cluster - 1);
    const auto n_turns = static_cast<uint32_t>(pairs() ? a.n_blocks / 2 : a.n_blocks);
    const auto begin = static_cast<int32_t>(n_turns * team / n_teams);
    const auto n_own = static_cast<int32_t>(n_turns * (team + 1) / n_teams) - begin;
    block = begin;
    if (pairs()) {
      n_left = a.n_cluster == 2 ? n_own : n_own * 2;
      if (a.n_cluster == 2) {
        block += n_own / 2 * rank();
        if (n_own % 2 == 1) shared_block = begin + n_own - 1;
        if (n_own == 1) share();
      }
      return;
    }
    n_left = n_own;
    while (block >= a.parts[part].n_blocks)
      block -= a.parts[part++].n_blocks;
  }
  __device__ bool pairs() const { return args.store == CudaStore::kSiluMul; }
  __device__ int32_t rank() const { return static_cast<int32_t>(blockIdx.x) % 2; }
  __device__ bool more() const { return n_left > 0; }
  // In the block of a pair that two CTAs share.
  __device__ bool shares() const { return n_left == 1 && shared_block >= 0; }
  __device__ void share() {
    block = shared_block;
    part = rank();
  }
  __device__ bool ends_block() const { return round + 1 == args.n_rounds; }
  __device__ void next() {
    first += n_groups;
    if (++round == args.n_longest) --n_groups;
    if (round < args.n_rounds) return;
    round = 0;
    first = 0;
    n_groups = args.longest_share;
    --n_left;
    if (pairs()) {
      block += part;
      part ^= 1;
      if (shares()) share();
    } else if (++block == args.parts[part].n_blocks) {
      block = 0;
      part = min(part + 1, args.n_parts - 1);
    }
  }
};

// The groups of a round that one warp multiplies.
struct Piece {
  int32_t first;
  int32_t n;

  __device__ Piece(const Walk& walk, int32_t warp)
      : first(walk.first + walk.n_groups * warp / kFusedWarps),
        n(walk.first + walk.n_groups * (warp + 1) / kFusedWarps - first) {}
};

struct FusedBarriers {
  uint32_t full;  // kFusedStages for each warp
  uint32_t dots_full;
  uint32_t dots_empty;
  uint32_t gates;  // of the other CTA are here

  __device__ explicit FusedBarriers(uint32_t address)
      : full(address),
        dots_full(full + kFusedWarps * kFusedStages * 8),
        dots_empty(dots_full + 16),
        gates(dots_empty + 16) {}
};

// --- the input -----------------------------------------------------------------------------------

// Among the warps that multiply.
__device__ inline void multiply_warps_meet() {
  asm volatile("bar.sync 1, %0;" ::"n"(kMultiplyThreads) : "memory");
}

// Values [column, column + 4) of the row, zeros past its end. Written by the kernel before: not
// from the L1 cache, which may hold what was there earlier. Loads of whole quads come one after the
// other without a branch; end_quad() then sees to the quad that the row's end cuts.
__device__ inline float4 load_row_quad(const FusedArgs& args, int32_t column) {
  return column + kQuad <= args.n_cols
             ? __ldcg(reinterpret_cast<const float4*>(args.x_row + column))
             : make_float4(0, 0, 0, 0);
}
__device__ inline void end_quad(const FusedArgs& args, int32_t column, float4& quad) {
  const int32_t n = args.n_cols - column;
  if (n <= 0 || n >= kQuad) return;
  quad.x = __ldcg(args.x_row + column);
  if (n > 1) quad.y = __ldcg(args.x_row + column + 1);
  if (n > 2) quad.z = __ldcg(args.x_row + column + 2);
}
__device__ inline bool cuts_quad(const FusedArgs& args) {
  return args.n_cols % kQuad != 0;
}

// Codes and scales of the row as it is.
__device__ inline void quantize_rows(const FusedArgs& args, int32_t warp,
                                     const CudaQuantized& out) {
  // The 86 groups of 11008 columns over 8 warps are read at once, and quantized in parts, so that a
  // narrow row ends early.
  constexpr int32_t kParts = 3;
  constexpr int32_t kGroups = 4;
  constexpr int32_t kStep = kGroups * kFusedWarps;
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  wait_for_kernel_before();
  for (int32_t first = warp; first < args.n_groups; first += kParts * kStep) {
    float4 quads[kParts][kGroups];
    const auto column = [&](int32_t part, int32_t i) {
      return (first + part * kStep + i * kFusedWarps) * kGroupColumns + lane * kQuad;
    };
#pragma unroll
    for (int32_t part = 0; part < kParts; ++part) {
#pragma unroll
      for (int32_t i = 0; i < kGroups; ++i) {
        quads[part][i] = load_row_quad(args, column(part, i));
      }
    }
    if (cuts_quad(args)) {
#pragma unroll
      for (int32_t part = 0; part < kParts; ++part) {
#pragma unroll
        for (int32_t i = 0; i < kGroups; ++i)
          end_quad(args, column(part, i), quads[part][i]);
      }
    }
#pragma unroll
    for (int32_t part = 0; part < kParts; ++part) {
      if (first + part * kStep >= args.n_groups) break;
      quantize_groups(quads[part], args.code_max, first + part * kStep, kFusedWarps, args.n_groups,
                      out);
    }
  }
}

// The same of rms_norm(row) * norm: as rms_norm_quantize_kernel, whose thread i of warp v is lane i
// of the warp v % 8 here. Calls row_is_here() once it is in registers.
template <int32_t kLaps, typename RowIsHere>
__device__ inline void normalize_rows(const FusedArgs& args, int32_t warp, float* warp_sums,
                                      const RowIsHere& row_is_here, const CudaQuantized& out) {
  constexpr int32_t kMostWarps = kMostNormThreads / 32;
  constexpr int32_t kOwn = kMostWarps / kFusedWarps;  // of a lap
  constexpr int32_t kAll = kLaps * kOwn;
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  float4 factors[kAll];
  float4 quads[kAll];
  const auto column = [&](int32_t i) {
    return (warp + i * kFusedWarps) * kGroupColumns + lane * kQuad;
  };
#pragma unroll
  for (int32_t i = 0; i < kAll; ++i)
    factors[i] = load_quad(args.norm, column(i), args.n_cols, true);
  wait_for_kernel_before();
#pragma unroll
  for (int32_t i = 0; i < kAll; ++i)
    quads[i] = load_row_quad(args, column(i));
  if (cuts_quad(args)) {
#pragma unroll
    for (int32_t i = 0; i < kAll; ++i)
      end_quad(args, column(i), quads[i]);
  }
  float sums[kOwn] = {};
#pragma unroll
  for (int32_t i = 0; i < kAll; ++i)
    if (column(i) < args.n_cols) sums[i % kOwn] = add_squares(sums[i % kOwn], quads[i]);
  sum_over_warp(sums);
  row_is_here();
  if (lane == 0) {
#pragma unroll
    for (int32_t i = 0; i < kOwn; ++i)
      warp_sums[warp + i * kFusedWarps] = sums[i];
  }
  multiply_warps_meet();
  const int32_t n_warps = norm_threads(args.n_cols) / 32;
  const float sum = warp_sum(lane < n_warps ? warp_sums[lane] : 0.0f);
  const float inverse = inverse_of_sum(sum, args.n_cols, args.eps);
#pragma unroll
  for (int32_t i = 0; i < kAll; ++i)
    quads[i] = normalize(quads[i], inverse, factors[i]);
  quantize_groups(quads, args.code_max, warp, kFusedWarps, args.n_groups, out);
}

// Quantized activations of all tokens.
template <typename S>
__device__ inline void copy_codes(const FusedArgs& args, uint8_t* codes, float* scales) {
  wait_for_kernel_before();
  const int32_t n_pieces = args.n_groups * static_cast<int32_t>(kGroupSize) / 16;
  for (int32_t token = 0; token < args.n_tokens; ++token) {
    const auto* from = reinterpret_cast<const uint4*>(args.x_codes) + int64_t{token} * n_pieces;
    auto* to = reinterpret_cast<uint4*>(codes + token * args.token_bytes);
    for (auto i = static_cast<int32_t>(threadIdx.x); i < n_pieces; i += kMultiplyThreads)
      to[i] = __ldcg(from + i);
    const float* from_scales = args.x_scales + int64_t{token} * args.n_groups;
    for (auto i = static_cast<int32_t>(threadIdx.x); i < args.n_groups; i += kMultiplyThreads)
      scales[i * S::kTokens + token] = __ldcg(from_scales + i);
  }
}

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
  args.n_cluster = S::kTokens == 1 && args.store == CudaStore::kSiluMul && where.sm >= 90
                       ? fused_pair_cluster(n_turns, grid)
                       : 1;
  const int32_t turn_rounds = (args.store == CudaStore::kSiluMul ? 2 : 1) * args.n_rounds;
  args.last_rounds =
      fused_last_rounds(S::kBits, args.longest_share, n_turns / grid * turn_rounds, args.store);
  const int64_t shared_bytes =
      fused_launch_bytes(S::kBits, args.n_tokens, args.n_groups, args.store == CudaStore::kAdd);
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
