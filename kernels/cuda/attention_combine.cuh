// The kernel that adds pieces of attention, where each was made by a CTA of its own.
#pragma once

#include "kernels/cuda/attention_pieces.cuh"
#include "kernels/cuda/programmatic_launch.cuh"

namespace flexq::attention {

inline constexpr int kCombineThreads = 256;

// Grid: (n_tokens, n_heads), kCombineThreads threads, a column of o each. Rows of one piece are
// there already. The weights of kCombineThreads pieces at a time are made first, one thread each
// (the largest m so far is a maximum, whatever its order), so that only two operations a piece
// follow each other.
__global__ void __launch_bounds__(kCombineThreads)
    attention_combine(PieceScratch scratch, const int32_t* positions, float* out,
                      int64_t out_stride, int32_t head_dim, float scale_log2) {
  __shared__ float pieces_m[kCombineThreads];
  __shared__ float before[kCombineThreads];
  __shared__ float piece[kCombineThreads];
  __shared__ float pieces_l[kCombineThreads];
  __shared__ float largest;
  take_turn();
  const int64_t token = blockIdx.x;
  const int64_t head = blockIdx.y;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t n_pieces = positions[token] / kPieceTokens + 1;
  if (n_pieces == 1) return;
  const int64_t first = (token * gridDim.y + head) * scratch.n_pieces;
  const float* o = scratch.o + first * head_dim;
  const float* ml = scratch.ml + first * 2;
  float m = ml[0];
  float l = ml[1];
  const int32_t column = min(thread, head_dim - 1);
  float sum = o[column];
  for (int32_t begin = 1; begin < n_pieces; begin += kCombineThreads) {
    const int32_t n = min(kCombineThreads, n_pieces - begin);
    // On their way while the weights are made.
    constexpr int kEarly = 16;
    float early[kEarly];
#pragma unroll
    for (int32_t i = 0; i < kEarly; ++i)
      early[i] = i < n ? o[int64_t{begin + i} * head_dim + column] : 0.0f;
    __syncthreads();
    if (thread < n) {
      pieces_m[thread] = ml[(begin + thread) * 2];
      pieces_l[thread] = ml[(begin + thread) * 2 + 1];
    }
    __syncthreads();
    if (thread < n) {
      float m_before = m;
      for (int32_t i = 0; i < thread; ++i)
        m_before = fmaxf(m_before, pieces_m[i]);
      const PieceWeights w = weigh_piece(m_before, pieces_m[thread], scale_log2);
      before[thread] = w.before;
      piece[thread] = w.piece;
      if (thread == n - 1) largest = w.m;
    }
    __syncthreads();
    m = largest;
    const auto add = [&](int32_t i, float piece_o) {
      const PieceWeights w = {0.0f, before[i], piece[i]};
      l = add_piece(w, l, pieces_l[i]);
      sum = add_piece(w, sum, piece_o);
    };
#pragma unroll
    for (int32_t i = 0; i < kEarly; ++i)
      if (i < n) add(i, early[i]);
#pragma unroll 16
    for (int32_t i = kEarly; i < n; ++i)
      add(i, o[int64_t{begin + i} * head_dim + column]);
  }
  if (thread < head_dim) out[token * out_stride + head * head_dim + thread] = normalize(sum, l);
}

}  // namespace flexq::attention
