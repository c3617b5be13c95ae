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
// threads, shared memory by btc_tiling.h. Any N, K and n_tokens (up to 65535 tiles); x.codes and
// the weights start on 16 bytes.
//
// A CTA goes through the groups of a row block in chunks. The units of a chunk are split among its
// warps, each with a ring of weights of its own that never waits for anybody; a dot and its scale
// go to shared memory as a term. After the chunk's barrier the threads of one warp (a thread per
// row and token) add the terms up in order while the others are at the next chunk, whose terms go
// to the other buffer. So the order of sums does not depend on how units fall on warps.
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
      : problem_(problem), warp_(warp), row_block_(blockIdx.x) {
    n_row_blocks_ = cuda_btc::n_blocks(problem.n_rows);
    if (row_block_ < n_row_blocks_) enter_chunk();
  }

  // Queues the next piece, if there is one.
  __device__ void issue_next(btc::WeightRing& ring) {
    while (unit_ == end_) {
      if (row_block_ >= n_row_blocks_) return;
      chunk_begin_ += problem_.tiling.chunk_groups;
      if (chunk_begin_ >= problem_.n_groups) {
        chunk_begin_ = 0;
        row_block_ += gridDim.x;
        if (row_block_ >= n_row_blocks_) return;
      }
      enter_chunk();
    }
    const int32_t n = min(kPieceUnits, end_ - unit_);
    const int64_t unit = row_block_ * problem_.n_groups + unit_;
    ring.issue(problem_.weights + unit * cuda_btc::kUnitBytes,
               problem_.scales + unit * cuda_btc::kUnitScaleBytes, n);
    unit_ += n;
  }

 private:
  __device__ void enter_chunk() {
    const int32_t n = min(problem_.tiling.chunk_groups, problem_.n_groups - chunk_begin_);
    const Share share = share_of(n, warp_);
    unit_ = chunk_begin_ + share.begin;
    end_ = chunk_begin_ + share.end;
  }

  const Problem& problem_;
  int32_t warp_;
  int64_t row_block_;
  int64_t n_row_blocks_;
  int32_t chunk_begin_ = 0;
  int32_t unit_ = 0;
  int32_t end_ = 0;
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

// This lane's part of a dot of row lane / 4 (of it + 8 in odd lanes): planes 2t and 2t + 1 of the
// activations, t = lane % 4, and 2(t ^ 1) and 2(t ^ 1) + 1 from the neighbouring lane.
__device__ __forceinline__ int32_t half_dot(const uint32_t (&w)[12], uint32_t x, int32_t lane) {
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
  const int32_t low = fold[0] * even + fold[1] * odd;
  const int32_t high = fold[2] * even + fold[3] * odd;
  const bool keeps_high = lane % 2 != 0;
  const int32_t kept = keeps_high ? high : low;
  return kept + __shfl_xor_sync(0xffffffffu, keeps_high ? low : high, 1);
}

// The terms of one unit: terms[token * 16 + row] = {(float)dot, sx * sw}. A lane ends with the dots
// of row lane / 4 + 8 * (lane % 2), of the first token of a pair in lanes t < 2, of the second in
// the others.
template <int32_t kTokens>
__device__ __forceinline__ void unit_terms(const uint8_t* weights, const uint8_t* scales,
                                           float multiplier, int32_t group, int32_t n_tokens,
                                           const Activations& x, float2* terms) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  uint32_t w[12];
#pragma unroll
  for (int32_t i = 0; i < 3; ++i) {
    const uint4 loaded = reinterpret_cast<const uint4*>(weights)[i * 32 + lane];
    w[i * 4 + 0] = loaded.x;
    w[i * 4 + 1] = loaded.y;
    w[i * 4 + 2] = loaded.z;
    w[i * 4 + 3] = loaded.w;
  }
  const int32_t row = lane / 4 + lane % 2 * 8;
  const float sw =
      __fmul_rn(__half2float(reinterpret_cast<const __half*>(scales)[row]), multiplier);
  const int32_t held = group - x.first_group;
  const uint32_t* const planes =
      x.planes + held * cuda_btc::kWordsPerGroup + swizzled_word(lane, held);
  const int32_t token_words = x.plane_groups * cuda_btc::kWordsPerGroup;
  if constexpr (kTokens == 1) {
    int32_t dot = half_dot(w, planes[0], lane);
    dot += __shfl_xor_sync(0xffffffffu, dot, 2);
    if (lane % 4 < 2) {
      terms[row] = make_float2(static_cast<float>(dot), __fmul_rn(x.scales[held], sw));
    }
  } else {
    const bool keeps_second = lane % 4 >= 2;
#pragma unroll
    for (int32_t pair = 0; pair < kTokens; pair += 2) {
      if (kTokens > 2 && pair >= n_tokens) break;
      const int32_t first = half_dot(w, planes[pair * token_words], lane);
      const int32_t second = half_dot(w, planes[(pair + 1) * token_words], lane);
      int32_t dot = keeps_second ? second : first;
      dot += __shfl_xor_sync(0xffffffffu, keeps_second ? first : second, 2);
      const int32_t token = pair + (keeps_second ? 1 : 0);
      terms[token * kRows + row] = make_float2(
          static_cast<float>(dot), __fmul_rn(x.scales[token * x.plane_groups + held], sw));
    }
  }
}

template <int32_t kTokens>
__global__ void __launch_bounds__(kThreads, 1) linear_btc(const __grid_constant__ Problem problem) {
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
  for (int32_t i = 0; i < tiling.n_stages; ++i)
    cursor.issue_next(ring);

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
  const int64_t n_row_blocks = cuda_btc::n_blocks(problem.n_rows);
  for (int64_t row_block = blockIdx.x; row_block < n_row_blocks; row_block += gridDim.x) {
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
        ring.wait();
#pragma unroll
        for (int32_t i = 0; i < kPieceUnits; ++i) {
          if (unit + i >= share.end) break;
          unit_terms<kTokens>(ring.weights() + i * cuda_btc::kUnitBytes,
                              ring.scales() + i * cuda_btc::kUnitScaleBytes, problem.multiplier,
                              begin + unit + i, tokens_here, x,
                              chunk_terms + (unit + i) * kUnitTerms);
        }
        ring.release();
        cursor.issue_next(ring);
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

    const int64_t row = row_block * kRows + output % kRows;
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
  const int64_t n_ctas = std::min<int64_t>(cuda_btc::n_blocks(w.rows), where.n_sms);
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
