// W6A6 and W6A8 linear layers on binary tensor cores (FlexQ paper, section 4), exact.
//
//   out[t, n] = (acc = fma((float)dot[t, n, g], sx[t, g] * sw[n, g], acc), g ascending from
//   acc = 0; cuda_k_slices() is 1 for every shape), then + bias[n], then + out[t, n] for kAdd
//
// Group dots come from bit planes: dot = sum over i, j of f(i) f(j) popcount(w_i & x_j), where f is
// 2^i and negative for the top plane. The 6 weight planes of 16 rows are the A operands of 6 MMAs,
// the 8 activation planes of a token the 8 columns of B. Per lane the 6 counts are folded by
// Horner's rule, the two columns of a lane by their factors, and the columns of a token, which lie
// in the four lanes of a quad, by shuffles: all in int32, so the dot is exact and is converted
// once.
//
// Grid: (CTAs that stride over blocks of 16 rows, tiles of Tiling::tokens tokens), kWarps * 32
// threads, shared memory by btc_tiling.h. Any N, K and n_tokens (up to 65535 tiles); activation
// codes, weights and their scales start on 16 bytes.
//
// A CTA goes through the groups of a row block in chunks. The units of a chunk are split among its
// warps, each with a ring of weights of its own that runs ahead into chunks and row blocks to come.
// A dot and its scale go to shared memory as a term. After the chunk's barrier the threads of one
// warp (a thread per row and token) add the terms up in order while the others are at the next
// chunk, whose terms go to the other buffer: the order of sums does not depend on how units fall on
// warps. Activation planes are made once per CTA, while the first weights are on their way.
#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/cuda/btc_kernels.h"
#include "kernels/cuda/btc_tiling.h"
#include "kernels/cuda/btc_weight_ring.cuh"
#include "kernels/cuda/mma_btc.cuh"

namespace flexq {
namespace {

using btc::kPieceUnits;
using btc::kWarps;

constexpr int32_t kThreads = kWarps * 32;
constexpr int32_t kRows = cuda_btc::kUnitRows;

struct Problem {
  const uint8_t* weights = nullptr;  // cuda_btc_layout.h
  const uint8_t* scales = nullptr;
  float multiplier = 1.0f;
  const int8_t* x_codes = nullptr;  // (n_tokens, n_groups * 128)
  const float* x_scales = nullptr;  // (n_tokens, n_groups)
  const float* bias = nullptr;      // (n_rows) or null
  float* out = nullptr;
  int64_t out_stride = 0;
  bool add = false;
  int64_t n_tokens = 0;
  int64_t n_rows = 0;
  int32_t n_groups = 0;
  btc::Tiling tiling;
  btc::SharedMap map;
};

// The units of a chunk of n that a warp takes: consecutive, as many as the others or one more.
struct Share {
  int32_t begin;
  int32_t end;
};
__device__ Share share_of(int32_t n, int32_t warp) {
  return {n * warp / kWarps, n * (warp + 1) / kWarps};
}

// Walks over the pieces of one warp in the order in which the warp uses them.
class PieceCursor {
 public:
  __device__ PieceCursor(const Problem& problem, int32_t warp)
      : problem_(problem),
        warp_(warp),
        row_block_(static_cast<int32_t>(blockIdx.x)),
        n_row_blocks_(static_cast<int32_t>(cuda_btc::n_blocks(problem.n_rows))) {
    if (row_block_ < n_row_blocks_) enter_chunk();
    advance();
  }

  // Queues the piece it stands on, if there is one, into a free stage.
  __device__ void fill(btc::WeightRing& ring, int32_t stage) {
    if (units_left_ == 0) return;
    const int32_t n = min(kPieceUnits, units_left_);
    ring.fill(stage, weights_, scales_, n);
    weights_ += kPieceUnits * cuda_btc::kUnitBytes;
    scales_ += kPieceUnits * cuda_btc::kUnitScaleBytes;
    units_left_ -= n;
  }

  // Steps on to the next piece: after fill() and off the way of what is urgent.
  __device__ void advance() {
    while (units_left_ == 0 && row_block_ < n_row_blocks_) {
      chunk_begin_ += problem_.tiling.chunk_groups;
      if (chunk_begin_ >= problem_.n_groups) {
        chunk_begin_ = 0;
        row_block_ += static_cast<int32_t>(gridDim.x);
        if (row_block_ >= n_row_blocks_) return;
      }
      enter_chunk();
    }
  }

 private:
  __device__ void enter_chunk() {
    const int32_t n = min(problem_.tiling.chunk_groups, problem_.n_groups - chunk_begin_);
    const Share share = share_of(n, warp_);
    const int64_t unit = int64_t{row_block_} * problem_.n_groups + chunk_begin_ + share.begin;
    weights_ = problem_.weights + unit * cuda_btc::kUnitBytes;
    scales_ = problem_.scales + unit * cuda_btc::kUnitScaleBytes;
    units_left_ = share.end - share.begin;
  }

  const Problem& problem_;
  int32_t warp_;
  int32_t row_block_;
  int32_t n_row_blocks_;
  int32_t chunk_begin_ = 0;
  int32_t units_left_ = 0;
  const uint8_t* weights_ = nullptr;
  const uint8_t* scales_ = nullptr;
};

// The activations of a tile of tokens in shared memory: planes (kTokens, plane_groups, 32 words)
// and scales (kTokens, plane_groups), of the groups from `first_group` on.
struct Activations {
  uint32_t* planes;
  float* scales;
  int32_t plane_groups;
  int32_t first_group;
};

// Words of 8 neighbouring groups are turned against each other, so that the lanes that write the
// planes of 8 groups hit 32 banks; a read of 32 lanes, one group's words, does in any order.
__device__ __forceinline__ int32_t swizzled_word(int32_t word, int32_t group) {
  return word ^ (group & 7) * 4;
}

// Fills planes and scales of n groups; zero for tokens past n_tokens. A thread turns 32 codes of a
// token, a quarter of a group, into a word of each plane.
template <int32_t kTokens>
__device__ void make_planes(const Problem& problem, int64_t first_token, int32_t n,
                            const Activations& x) {
#pragma unroll 1
  for (int32_t token = 0; token < kTokens; ++token) {
    const bool here = first_token + token < problem.n_tokens;
    const int64_t row = (first_token + token) * problem.n_groups + x.first_group;
#pragma unroll 1
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n * 4; i += kThreads) {
      const int32_t group = i / 4;
      uint32_t words[8] = {};
      if (here) {
        const auto* const codes =
            reinterpret_cast<const uint4*>(problem.x_codes + (row + group) * cuda_btc::kGroupSize +
                                           i % 4 * cuda_btc::kWordColumns);
        const uint4 low = __ldg(codes);
        const uint4 high = __ldg(codes + 1);
        words[0] = low.x, words[1] = low.y, words[2] = low.z, words[3] = low.w;
        words[4] = high.x, words[5] = high.y, words[6] = high.z, words[7] = high.w;
      }
      cuda_btc::transpose_planes(words);
      uint32_t* const to = x.planes + (token * x.plane_groups + group) * cuda_btc::kWordsPerGroup;
#pragma unroll
      for (int32_t plane = 0; plane < cuda_btc::kActivationPlanes; ++plane) {
        to[swizzled_word(cuda_btc::activation_word(plane, i % 4), group)] = words[plane];
      }
    }
#pragma unroll 1
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n; i += kThreads) {
      x.scales[token * x.plane_groups + i] = here ? __ldg(problem.x_scales + row + i) : 0.0f;
    }
  }
}

// A lane's part of the dots of rows lane / 4 and lane / 4 + 8: planes 2t and 2t + 1 of the
// activations, t = lane % 4.
struct PartialDots {
  int32_t low;
  int32_t high;
};
__device__ __forceinline__ PartialDots partial_dots(const uint32_t (&w)[12], uint32_t x,
                                                    int32_t lane) {
  int32_t fold[4];
  btc::mma_and_popc(fold, w[10], w[11], x);
#pragma unroll
  for (int32_t& value : fold)
    value = -value;  // the top plane counts negative
#pragma unroll
  for (int32_t plane = cuda_btc::kWeightPlanes - 2; plane >= 0; --plane) {
    int32_t count[4];
    btc::mma_and_popc(count, w[plane * 2], w[plane * 2 + 1], x);
#pragma unroll
    for (int32_t i = 0; i < 4; ++i)
      fold[i] = fold[i] * 2 + count[i];
  }
  const int32_t t = lane % 4;
  const int32_t even = 1 << t * 2;
  const int32_t odd = t == 3 ? -(2 << t * 2) : 2 << t * 2;
  return {fold[0] * even + fold[1] * odd, fold[2] * even + fold[3] * odd};
}

// Adds the parts of a quad for two dots at once. A lane gets the dot of row
// lane / 4 + 8 * (lane % 2): the first in lanes t < 2, the second in the others.
__device__ __forceinline__ int32_t quad_sums(PartialDots first, PartialDots second, int32_t lane) {
  constexpr uint32_t kAllLanes = 0xffffffffu;
  const bool keeps_high = lane % 2 != 0;
  int32_t a = keeps_high ? first.high : first.low;
  a += __shfl_xor_sync(kAllLanes, keeps_high ? first.low : first.high, 1);
  int32_t b = keeps_high ? second.high : second.low;
  b += __shfl_xor_sync(kAllLanes, keeps_high ? second.low : second.high, 1);
  const bool keeps_second = lane % 4 >= 2;
  const int32_t kept = keeps_second ? b : a;
  return kept + __shfl_xor_sync(kAllLanes, keeps_second ? a : b, 2);
}

static_assert(kPieceUnits == 2, "make_terms pairs the units of a piece");

// A lane's share of a piece: its words of each unit and the scale of row
// lane / 4 + 8 * (lane % 2), whose dots it will hold. A piece of one unit has it twice.
struct PieceOfLane {
  uint32_t words[kPieceUnits][12];
  __half scales[kPieceUnits];
};
__device__ __forceinline__ PieceOfLane load_piece(const btc::WeightRing& ring, int32_t n_units,
                                                  int32_t lane) {
  PieceOfLane piece;
  const int32_t row = lane / 4 + lane % 2 * 8;
#pragma unroll
  for (int32_t i = 0; i < kPieceUnits; ++i) {
    const int32_t unit = min(i, n_units - 1);
    const auto* const words =
        reinterpret_cast<const uint4*>(ring.weights() + unit * cuda_btc::kUnitBytes);
#pragma unroll
    for (int32_t load = 0; load < 3; ++load) {
      const uint4 loaded = words[load * 32 + lane];
      piece.words[i][load * 4 + 0] = loaded.x;
      piece.words[i][load * 4 + 1] = loaded.y;
      piece.words[i][load * 4 + 2] = loaded.z;
      piece.words[i][load * 4 + 3] = loaded.w;
    }
    const auto* const scales =
        reinterpret_cast<const __half*>(ring.scales() + unit * cuda_btc::kUnitScaleBytes);
    piece.scales[i] = scales[row];
  }
  return piece;
}

__device__ __forceinline__ uint32_t planes_word(const Activations& x, int32_t token, int32_t group,
                                                int32_t lane) {
  return x.planes[(token * x.plane_groups + group) * cuda_btc::kWordsPerGroup +
                  swizzled_word(lane, group)];
}

// A dot and its scale, sx * (fp16 scale * multiplier).
__device__ __forceinline__ float2 make_term(int32_t dot, float x_scale, __half w_scale,
                                            float multiplier) {
  return make_float2(static_cast<float>(dot),
                     __fmul_rn(x_scale, __fmul_rn(__half2float(w_scale), multiplier)));
}

// The terms of a piece of kUnits, to terms[(unit * kTokens + token) * 16 + row]. `held`: its first
// group among those whose planes are held. Dots are made two at a time: of two units where there is
// one token, else of two tokens.
template <int32_t kTokens, int32_t kUnits>
__device__ __forceinline__ void make_terms(const PieceOfLane& piece, int32_t held, int32_t n_tokens,
                                           int32_t lane, float multiplier, const Activations& x,
                                           float2* terms) {
  const int32_t row = lane / 4 + lane % 2 * 8;
  const bool second = lane % 4 >= 2;  // this lane keeps the second dot of a pair
  if constexpr (kTokens == 1) {
    constexpr int32_t kLast = kUnits - 1;
    const int32_t dot = quad_sums(
        partial_dots(piece.words[0], planes_word(x, 0, held, lane), lane),
        partial_dots(piece.words[kLast], planes_word(x, 0, held + kLast, lane), lane), lane);
    const int32_t unit = second ? kLast : 0;
    if (kUnits == 2 || !second) {
      terms[unit * kRows + row] = make_term(
          dot, x.scales[held + unit], second ? piece.scales[kLast] : piece.scales[0], multiplier);
    }
  } else {
#pragma unroll
    for (int32_t pair = 0; pair < kTokens; pair += 2) {
      if (kTokens > 2 && pair >= n_tokens) break;
      const int32_t token = pair + (second ? 1 : 0);
#pragma unroll
      for (int32_t unit = 0; unit < kUnits; ++unit) {
        const int32_t group = held + unit;
        const int32_t dot = quad_sums(
            partial_dots(piece.words[unit], planes_word(x, pair, group, lane), lane),
            partial_dots(piece.words[unit], planes_word(x, pair + 1, group, lane), lane), lane);
        terms[(unit * kTokens + token) * kRows + row] = make_term(
            dot, x.scales[token * x.plane_groups + group], piece.scales[unit], multiplier);
      }
    }
  }
}

template <int32_t kTokens>
__global__ void __launch_bounds__(kThreads, btc::kMostCtasPerSm)
    linear_btc(const __grid_constant__ Problem problem) {
  extern __shared__ __align__(128) uint8_t shared[];
  const btc::Tiling& tiling = problem.tiling;
  const btc::SharedMap& map = problem.map;
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / 32;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  const int32_t n_groups = problem.n_groups;

  // Weights are on their way before anything else is looked at.
  const int32_t first_stage = warp * tiling.n_stages;
  btc::WeightRing ring(shared + map.weights + first_stage * kPieceUnits * cuda_btc::kUnitBytes,
                       shared + map.scales + first_stage * kPieceUnits * cuda_btc::kUnitScaleBytes,
                       reinterpret_cast<uint64_t*>(shared + map.barriers) + first_stage,
                       tiling.n_stages);
  PieceCursor cursor(problem, warp);
  for (int32_t i = 0; i < tiling.n_stages; ++i) {
    cursor.fill(ring, i);
    cursor.advance();
  }

  const int64_t first_token = int64_t{blockIdx.y} * kTokens;
  const auto tokens_here =
      static_cast<int32_t>(min(int64_t{kTokens}, problem.n_tokens - first_token));
  Activations x = {reinterpret_cast<uint32_t*>(shared + map.planes),
                   reinterpret_cast<float*>(shared + map.x_scales), tiling.plane_groups, 0};
  const bool holds_all_planes = tiling.plane_groups == n_groups;
  bool has_planes = false;

  auto* const terms = reinterpret_cast<float2*>(shared + map.terms);
  constexpr int32_t kUnitTerms = kTokens * kRows;
  constexpr int32_t kSumWarps = (kUnitTerms + 31) / 32;  // 1, 1, 2, 4
  static_assert(kWarps % kSumWarps == 0, "warps take turns at summing");
  int32_t buffer = 0;
  int32_t turn = 0;
  const auto n_row_blocks = static_cast<int32_t>(cuda_btc::n_blocks(problem.n_rows));
  for (auto row_block = static_cast<int32_t>(blockIdx.x); row_block < n_row_blocks;
       row_block += static_cast<int32_t>(gridDim.x)) {
    // The warps that sum change from row block to row block: the others are ahead of them by then.
    const int32_t output = (warp - turn + kWarps) % kWarps * 32 + lane;
    const bool sums = output < kUnitTerms;
    float sum = 0.0f;
    for (int32_t begin = 0; begin < n_groups; begin += tiling.chunk_groups) {
      const int32_t n = min(tiling.chunk_groups, n_groups - begin);
      if (!has_planes) {
        // Nobody reads the planes of the chunk before: its barrier lies behind.
        x.first_group = begin;
        make_planes<kTokens>(problem, first_token, holds_all_planes ? n_groups : n, x);
        __syncthreads();
        has_planes = holds_all_planes;
      }
      float2* const chunk_terms = terms + buffer * tiling.chunk_groups * kUnitTerms;
      const Share share = share_of(n, warp);
      for (int32_t unit = share.begin; unit < share.end; unit += kPieceUnits) {
        const int32_t n_units = min(kPieceUnits, share.end - unit);
        // The stage is filled again as soon as the registers hold what was there.
        ring.wait();
        const PieceOfLane piece = load_piece(ring, n_units, lane);
        __syncwarp();
        cursor.fill(ring, ring.stage());
        ring.advance();
        const int32_t held = begin + unit - x.first_group;
        float2* const to = chunk_terms + unit * kUnitTerms;
        if (n_units == kPieceUnits) {
          make_terms<kTokens, kPieceUnits>(piece, held, tokens_here, lane, problem.multiplier, x,
                                           to);
        } else {
          make_terms<kTokens, 1>(piece, held, tokens_here, lane, problem.multiplier, x, to);
        }
        cursor.advance();
      }
      __syncthreads();
      if (sums) {
#pragma unroll 8
        for (int32_t i = 0; i < n; ++i) {
          const float2 term = chunk_terms[i * kUnitTerms + output];
          sum = __fmaf_rn(term.x, term.y, sum);
        }
      }
      buffer ^= 1;
    }
    turn = (turn + kSumWarps) % kWarps;

    const int64_t row = int64_t{row_block} * kRows + output % kRows;
    const int32_t token = output / kRows;
    if (sums && token < tokens_here && row < problem.n_rows) {
      float* const out = problem.out + (first_token + token) * problem.out_stride + row;
      if (problem.bias != nullptr) sum = __fadd_rn(sum, problem.bias[row]);
      *out = problem.add ? __fadd_rn(*out, sum) : sum;
    }
  }
}

}  // namespace

cudaError_t cuda_linear_btc(const CudaLaunch& where, const CudaMatrix& w, CudaQuantized x,
                            int32_t /*bits: planes of 6-bit codes are those of 8 bits*/,
                            int64_t n_tokens, const float* bias, CudaStore store, CudaRows out,
                            uint8_t* /*scratch*/) {
  Problem problem;
  problem.weights = w.values;
  problem.scales = w.scales;
  problem.multiplier = w.scale_multiplier;
  problem.x_codes = x.codes;
  problem.x_scales = x.scales;
  problem.bias = bias;
  problem.out = out.data;
  problem.out_stride = out.stride;
  problem.add = store == CudaStore::kAdd;
  problem.n_tokens = n_tokens;
  problem.n_rows = w.rows;
  problem.n_groups = static_cast<int32_t>(cuda_btc::n_groups(w.cols));
  problem.tiling = btc::choose_tiling(where.sm, n_tokens, problem.n_groups);
  problem.map = btc::shared_map(problem.tiling);

  const int32_t tokens = problem.tiling.tokens;
  const int64_t n_ctas = std::min<int64_t>(cuda_btc::n_blocks(w.rows),
                                           int64_t{where.n_sms} * problem.tiling.ctas_per_sm);
  const dim3 grid(static_cast<unsigned>(n_ctas),
                  static_cast<unsigned>((n_tokens + tokens - 1) / tokens));
  const auto kernel = tokens == 1   ? linear_btc<1>
                      : tokens == 2 ? linear_btc<2>
                      : tokens == 4 ? linear_btc<4>
                                    : linear_btc<8>;
  return launch(where, kernel, grid, dim3(kThreads), static_cast<size_t>(problem.map.bytes),
                problem);
}

int64_t cuda_linear_btc_scratch_bytes(int64_t /*n_rows*/, int64_t /*n_cols*/,
                                      int64_t /*n_tokens*/) {
  return 0;  // planes and partial sums stay in shared memory
}

}  // namespace flexq
