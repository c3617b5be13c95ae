// The KV length of a row is cut into pieces of kPieceTokens positions. A piece leaves the largest
// score m, the sum l of exp(score - m) and the vector o of exp(score - m) * v; pieces are added in
// ascending order with the functions below, by the CTA that made them all or by a second kernel:
// the same operations on the same numbers, so the same bits.
#pragma once

#include "kernels/cuda/mma_f16.cuh"

namespace flexq::attention {

inline constexpr int kPieceTokens = 256;

// Weights of what was added before and of the next piece, relative to the larger m.
struct PieceWeights {
  float m;
  float before;
  float piece;
};
// scale_log2: log2(e) / sqrt(head_dim).
__device__ inline PieceWeights weigh_piece(float m_before, float m_piece, float scale_log2) {
  const float m = fmaxf(m_before, m_piece);
  return {m, exp2_approx(__fmul_rn(__fsub_rn(m_before, m), scale_log2)),
          exp2_approx(__fmul_rn(__fsub_rn(m_piece, m), scale_log2))};
}
// For l and for every element of o.
__device__ inline float add_piece(const PieceWeights& w, float before, float piece) {
  return __fmaf_rn(piece, w.piece, __fmul_rn(before, w.before));
}
__device__ inline float normalize(float o, float l) {
  return __fmul_rn(o, __frcp_rn(l));
}

// Pieces in scratch: o (n_tokens * n_heads, n_pieces, head_dim), then m and l (.., n_pieces, 2).
struct PieceScratch {
  float* o;
  float* ml;
  int32_t n_pieces;
};

// Grid: (n_tokens, n_heads), head_dim threads rounded up to warps. Rows of one piece are there
// already.
__global__ void attention_combine(PieceScratch scratch, const int32_t* positions, float* out,
                                  int64_t out_stride, int32_t head_dim, float scale_log2) {
  const int64_t token = blockIdx.x;
  const int64_t head = blockIdx.y;
  const auto d = static_cast<int32_t>(threadIdx.x);
  const int32_t n_pieces = positions[token] / kPieceTokens + 1;
  if (n_pieces == 1 || d >= head_dim) return;
  const int64_t first = (token * gridDim.y + head) * scratch.n_pieces;
  const float* o = scratch.o + first * head_dim + d;
  const float* ml = scratch.ml + first * 2;
  float m = ml[0];
  float l = ml[1];
  float sum = o[0];
#pragma unroll 8
  for (int32_t i = 1; i < n_pieces; ++i) {
    const PieceWeights w = weigh_piece(m, ml[i * 2], scale_log2);
    l = add_piece(w, l, ml[i * 2 + 1]);
    sum = add_piece(w, sum, o[int64_t{i} * head_dim]);
    m = w.m;
  }
  out[token * out_stride + head * head_dim + d] = normalize(sum, l);
}

}  // namespace flexq::attention
