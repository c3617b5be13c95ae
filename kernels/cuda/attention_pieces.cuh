// The KV length of a row is cut into pieces of kPieceTokens positions. A piece leaves the largest
// score m, the sum l of exp(score - m) and the vector o of exp(score - m) * v; pieces are added in
// ascending order with the functions below, by the CTA that made them all, by the last of the CTAs
// that made one each, or by a second kernel: the same operations on the same numbers, so the same
// bits.
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

}  // namespace flexq::attention
