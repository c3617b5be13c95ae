// One warp's 16 rows of attention, the M of mma.m16n8k16, over tiles of keys and values: the steps
// that decode and prefill are made of, so that both give the same bits. See attention_kernels.cu.
#pragma once

#include "kernels/cuda/attention_pieces.cuh"
#include "kernels/cuda/kv_tiles.cuh"

namespace flexq::attention {

inline constexpr int kRowsPerWarp = 16;
// Above this number of tokens a pass has rows enough to fill the processors without pieces.
inline constexpr int64_t kMostSplitTokens = 64;

struct Args {
  CudaKv kv;
  const int32_t* positions;
  const int32_t* sequences;
  const int32_t* run_begins;
  const float* q;
  float* out;
  int64_t q_stride;
  int64_t out_stride;
  int32_t n_heads;
  int32_t n_group;  // query heads per KV head
  int32_t n_runs;
  bool single_tokens;  // every run is one token
  int32_t tiles_per_run;
  int32_t n_pieces;  // CTAs along the KV length
  float scale_log2;
  int32_t exchange_offset;  // bytes into dynamic shared memory
  PieceScratch scratch;
};

// The 16 rows of a warp as one lane sees them: rows g and g + 8.
struct LaneRows {
  int32_t token[2];
  int32_t head[2];      // of all query heads
  int32_t position[2];  // -1: no such row
};

// What a warp makes of a tile: all of its 16 rows, or the part of one of four warps.
template <int kDim, bool kTogether>
struct Part {
  static constexpr int kShare = kTogether ? kKvWarps : 1;
  static constexpr int kTileKeys = kTilePositions<kDim> / 8;  // 8 positions each
  static constexpr int kKeys = kTileKeys / kShare;
  // Columns of o come in pairs of 8; a small kDim leaves some warps without any.
  static constexpr int kPairs = kDim / 16 < kShare ? 1 : kDim / 16 / kShare;
  static constexpr int kColumns = kPairs * 2;  // 8 columns each

  __device__ static int first_key(int warp) { return kTogether ? warp * kKeys : 0; }
  __device__ static int first_column(int warp) { return kTogether ? warp * kColumns : 0; }
  __device__ static bool has_columns(int warp) { return first_column(warp) < kDim / 8; }
};

template <int kColumns>
struct State {
  float o[kColumns][4];
  float l[4];  // elements 1 and 3 repeat 0 and 2
  float m[2];

  __device__ void reset() {
#pragma unroll
    for (auto& n : o)
      for (float& x : n)
        x = 0.0f;
    for (float& x : l)
      x = 0.0f;
    m[0] = m[1] = -INFINITY;
  }
};

// Between warps that share rows.
template <int kDim>
struct Exchange {
  float largest[kKvWarps][kRowsPerWarp];
  uint4 p[kTilePositions<kDim> / 16][32];  // A operands of each step, by lane
};

__device__ inline LaneRows lane_rows(const Args& args, int64_t run_begin, int64_t first_row,
                                     int64_t n_rows, int64_t kv_head, int lane) {
  LaneRows rows;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = first_row + lane / 4 + half * 8;
    const int64_t existing = min(row, n_rows - 1);
    rows.token[half] = static_cast<int32_t>(run_begin + existing / args.n_group);
    rows.head[half] = static_cast<int32_t>(kv_head * args.n_group + existing % args.n_group);
    rows.position[half] = row < n_rows ? args.positions[rows.token[half]] : -1;
  }
  return rows;
}

// The A operands of all steps of 16 columns; zeros past head_dim.
template <int kDim, bool kInt8>
__device__ inline void load_q(const Args& args, const LaneRows& rows, int lane,
                              uint32_t (&q)[kDim / 16][4]) {
  const int32_t head_dim = args.kv.head_dim;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float* row =
        args.q + int64_t{rows.token[half]} * args.q_stride + int64_t{rows.head[half]} * head_dim;
#pragma unroll
    for (int i = 0; i < kDim / 8; ++i) {
      const int column = column_of_pair<kInt8>(i / 2, i % 2, lane);
      const float low = column < head_dim ? row[column] : 0.0f;
      const float high = column + 1 < head_dim ? row[column + 1] : 0.0f;
      q[i / 2][i % 2 * 2 + half] = pack_halves(low, high);
    }
  }
}

// s = q k^T for kKeys * 8 positions from `first` on, k-steps in ascending order. Loads come before
// products that do not wait for each other.
template <int kDim, int kKeys>
__device__ inline void multiply_keys(const uint32_t (&q)[kDim / 16][4], const uint8_t* tile,
                                     int first, int lane, float (&s)[kKeys][4]) {
#pragma unroll
  for (int n = 0; n < kKeys; ++n) {
    s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
  }
  if constexpr (kDim == 16) {
    static_assert(kKeys % 2 == 0, "one load serves two tiles of 8 positions");
#pragma unroll
    for (int n = 0; n < kKeys; n += 2) {
      uint32_t b[4];
      load_matrices(b,
                    tile + tile_offset<kDim>(first + (n + lane / 16) * 8 + lane % 8, lane / 8 % 2));
      mma_m16n8k16(s[n], q[0], b[0], b[1]);
      mma_m16n8k16(s[n + 1], q[0], b[2], b[3]);
    }
  } else {
#pragma unroll
    for (int step = 0; step < kDim / 16; step += 2) {
      uint32_t b[kKeys][4];
#pragma unroll
      for (int n = 0; n < kKeys; ++n) {
        load_matrices(b[n],
                      tile + tile_offset<kDim>(first + n * 8 + lane % 8, step * 2 + lane / 8));
      }
#pragma unroll
      for (int n = 0; n < kKeys; ++n)
        mma_m16n8k16(s[n], q[step], b[n][0], b[n][1]);
#pragma unroll
      for (int n = 0; n < kKeys; ++n)
        mma_m16n8k16(s[n], q[step + 1], b[n][2], b[n][3]);
    }
  }
}

// The same from a raw int8 tile: every lane converts what it multiplies.
template <int kDim, int kKeys>
__device__ inline void multiply_raw_keys(const uint32_t (&q)[kDim / 16][4], const uint8_t* raw,
                                         int first, int lane, float (&s)[kKeys][4]) {
  const auto* scales = reinterpret_cast<const uint16_t*>(raw + kTilePositions<kDim> * kDim);
  __half2 scale[kKeys];
#pragma unroll
  for (int n = 0; n < kKeys; ++n) {
    const uint32_t bits = scales[first + n * 8 + lane / 4];
    scale[n] = pair_of_scales(bits | bits << 16);
    s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
  }
  // Rows 8 apart swap their pieces alike, and piece i lies where piece 0 does but for the bits of
  // i.
  const int own = raw_offset<kDim>(first + lane / 4, 0) + lane % 4 * 4;
  constexpr int kSteps = kDim / 16;
  constexpr int kAtOnce = kSteps < 4 ? kSteps : 4;  // loads before what waits for them
#pragma unroll
  for (int begin = 0; begin < kSteps; begin += kAtOnce) {
    uint32_t codes[kAtOnce][kKeys];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
      for (int n = 0; n < kKeys; ++n) {
        codes[i][n] =
            *reinterpret_cast<const uint32_t*>(raw + (own ^ (begin + i) * 16) + n * 8 * kDim);
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
      for (int n = 0; n < kKeys; ++n) {
        const uint32_t biased = biased_codes(codes[i][n]);
        mma_m16n8k16(s[n], q[begin + i], pair_of_codes(biased, kLowPair, scale[n]),
                     pair_of_codes(biased, kHighPair, scale[n]));
      }
    }
  }
}

// Scores of positions after the row's own become -infinity.
template <int kKeys>
__device__ inline void mask(const LaneRows& rows, int32_t first_position, int lane,
                            float (&s)[kKeys][4]) {
#pragma unroll
  for (int n = 0; n < kKeys; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (first_position + n * 8 + lane % 4 * 2 + i % 2 > rows.position[i / 2]) s[n][i] = -INFINITY;
    }
  }
}

// The largest of m and of the tile's scores, for rows g and g + 8.
template <int kDim, bool kTogether, int kKeys>
__device__ inline void find_largest(const float (&s)[kKeys][4], const float (&m)[2], int warp,
                                    int lane, Exchange<kDim>* exchange, float (&largest)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    largest[half] = m[half];
#pragma unroll
    for (int n = 0; n < kKeys; ++n)
      largest[half] = fmaxf(largest[half], fmaxf(s[n][half * 2], s[n][half * 2 + 1]));
    largest[half] = fmaxf(largest[half], __shfl_xor_sync(~0u, largest[half], 1));
    largest[half] = fmaxf(largest[half], __shfl_xor_sync(~0u, largest[half], 2));
  }
  if constexpr (kTogether) {
    if (lane % 4 == 0) {
      exchange->largest[warp][lane / 4] = largest[0];
      exchange->largest[warp][lane / 4 + 8] = largest[1];
    }
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kKvWarps; ++w) {
      largest[0] = fmaxf(largest[0], exchange->largest[w][lane / 4]);
      largest[1] = fmaxf(largest[1], exchange->largest[w][lane / 4 + 8]);
    }
  }
}

// Scores to p, as halves of A operands: of 8 positions, for rows g and g + 8. Rescales the state to
// the new maximum.
template <int kKeys, int kColumns>
__device__ inline void soften(const float (&s)[kKeys][4], const float (&largest)[2],
                              float scale_log2, State<kColumns>& state, uint32_t (&p)[kKeys][2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    // A row that has seen no position yet: 0 keeps infinities from meeting.
    const float reference = largest[half] == -INFINITY ? 0.0f : largest[half];
    const float rescale = exp2_approx(__fmul_rn(__fsub_rn(state.m[half], reference), scale_log2));
    state.m[half] = largest[half];
    const float shift = __fmul_rn(-reference, scale_log2);
#pragma unroll
    for (int n = 0; n < kKeys; ++n) {
      const float low = exp2_approx(__fmaf_rn(s[n][half * 2], scale_log2, shift));
      const float high = exp2_approx(__fmaf_rn(s[n][half * 2 + 1], scale_log2, shift));
      p[n][half] = pack_halves(low, high);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      state.l[half * 2 + i] = __fmul_rn(state.l[half * 2 + i], rescale);
#pragma unroll
      for (int n = 0; n < kColumns; ++n)
        state.o[n][half * 2 + i] = __fmul_rn(state.o[n][half * 2 + i], rescale);
    }
  }
}

// o += p v and l += p 1 for one step of 16 positions and the columns from `first_column` on.
template <int kDim, int kColumns>
__device__ inline void multiply_values(const uint32_t (&p)[4], const uint8_t* tile, int step,
                                       int first_column, int lane, State<kColumns>& state) {
  constexpr uint32_t kOnes = 0x3c003c00u;
  constexpr int kLoads = kColumns / 2 < 4 ? kColumns / 2 : 4;  // at a time
  mma_m16n8k16(state.l, p, kOnes, kOnes);
#pragma unroll
  for (int n = 0; n < kColumns; n += kLoads * 2) {
    uint32_t b[kLoads][4];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      load_matrices_transposed(
          b[i],
          tile + tile_offset<kDim>(step * 16 + lane % 16, first_column + n + i * 2 + lane / 16));
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      mma_m16n8k16(state.o[n + i * 2], p, b[i][0], b[i][1]);
      mma_m16n8k16(state.o[n + i * 2 + 1], p, b[i][2], b[i][3]);
    }
  }
}

// The column of element i of n's 8 columns in a lane's state. kRaw: as multiply_raw_values() makes
// them, up to four consecutive ones a lane.
template <int kColumns, bool kRaw>
__device__ inline int state_column(int first_column, int n, int i, int lane) {
  const int x = lane % 4 * 2 + i;
  if constexpr (!kRaw) return (first_column + n) * 8 + x;
  constexpr int kWide = kColumns < 4 ? kColumns : 4;
  return first_column * 8 + n / kWide * kWide * 8 + x * kWide + n % kWide;
}

// The same products from a raw int8 tile. Only the order of columns differs, see state_column().
template <int kDim, int kColumns>
__device__ inline void multiply_raw_values(const uint32_t (&p)[4], const uint8_t* raw, int step,
                                           int first_column, int lane, State<kColumns>& state) {
  constexpr uint32_t kOnes = 0x3c003c00u;
  constexpr int kWide = kColumns < 4 ? kColumns : 4;
  static_assert(kColumns % kWide == 0 && (kWide == 2 || kWide == 4), "loads of 2 or 4 codes");
  mma_m16n8k16(state.l, p, kOnes, kOnes);
  // Positions 2t, 2t + 1, 2t + 8 and 2t + 9 of the step.
  const uint8_t* scales = raw + kTilePositions<kDim> * kDim + lane % 4 * 4;
  __half2 scale[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    scale[half] =
        pair_of_scales(*reinterpret_cast<const uint32_t*>(scales + (step * 16 + half * 8) * 2));
  }
#pragma unroll
  for (int group = 0; group < kColumns; group += kWide) {
    const int column = first_column * 8 + group * 8 + lane / 4 * kWide;
    uint32_t codes[2][2];  // of positions 8 apart, and 1 apart
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int own = (raw_offset<kDim>(lane % 4 * 2 + i % 2, 0) ^ column / 16 * 16) + column % 16;
      const uint8_t* from = raw + own + (step * 16 + i / 2 * 8) * kDim;
      codes[i / 2][i % 2] = biased_codes(kWide == 4 ? *reinterpret_cast<const uint32_t*>(from)
                                                    : *reinterpret_cast<const uint16_t*>(from));
    }
#pragma unroll
    for (int j = 0; j < kWide; j += 2) {
      uint32_t b[2][2];  // of columns j and j + 1
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // Both positions of column j, then of column j + 1.
        const uint32_t both = __byte_perm(codes[half][0], codes[half][1], j == 0 ? 0x5140 : 0x7362);
        b[0][half] = pair_of_codes(both, kLowPair, scale[half]);
        b[1][half] = pair_of_codes(both, kHighPair, scale[half]);
      }
      mma_m16n8k16(state.o[group + j], p, b[0][0], b[0][1]);
      mma_m16n8k16(state.o[group + j + 1], p, b[1][0], b[1][1]);
    }
  }
}

// The sum of finished pieces waits in shared memory, (kColumns, 32) vectors of 4 floats per warp,
// and in two registers per row.
template <int kColumns>
__device__ inline void park(const State<kColumns>& state, float4* parked, float (&sum_m)[2],
                            float (&sum_l)[2], int lane) {
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    parked[n * 32 + lane] = make_float4(state.o[n][0], state.o[n][1], state.o[n][2], state.o[n][3]);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sum_m[half] = state.m[half];
    sum_l[half] = state.l[half * 2];
  }
}

// Turns `state`, a finished piece, into the sum of it and all before it. Rows that end before the
// piece keep their sum.
template <int kColumns>
__device__ inline void add_to_sum(const LaneRows& rows, int32_t piece_first, float scale_log2,
                                  const float4* parked, const float (&sum_m)[2],
                                  const float (&sum_l)[2], State<kColumns>& state, int lane) {
  PieceWeights weights[2];
  bool adds[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    weights[half] = weigh_piece(sum_m[half], state.m[half], scale_log2);
    adds[half] = rows.position[half] >= piece_first;
    state.m[half] = adds[half] ? weights[half].m : sum_m[half];
    state.l[half * 2] =
        adds[half] ? add_piece(weights[half], sum_l[half], state.l[half * 2]) : sum_l[half];
  }
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    const float4 before = parked[n * 32 + lane];
    const float old[4] = {before.x, before.y, before.z, before.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      state.o[n][i] = adds[i / 2] ? add_piece(weights[i / 2], old[i], state.o[n][i]) : old[i];
    }
  }
}

// o / l of columns from `first_column` on to the output. kRaw: see state_column().
template <bool kRaw, int kColumns>
__device__ inline void store_rows(const Args& args, const LaneRows& rows,
                                  const State<kColumns>& state, int first_column, int lane,
                                  int32_t most_position) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows.position[half] < 0 || rows.position[half] > most_position) continue;
    float* out = args.out + int64_t{rows.token[half]} * args.out_stride +
                 int64_t{rows.head[half]} * args.kv.head_dim;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = state_column<kColumns, kRaw>(first_column, n, i, lane);
        if (column < args.kv.head_dim)
          out[column] = normalize(state.o[n][half * 2 + i], state.l[half * 2]);
      }
    }
  }
}

// o, m and l to scratch, for rows of more than one piece that have positions in this one.
template <bool kRaw, int kColumns>
__device__ inline void store_piece(const Args& args, const LaneRows& rows,
                                   const State<kColumns>& state, int32_t piece, int first_column,
                                   int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int32_t position = rows.position[half];
    if (position < kPieceTokens || position < piece * kPieceTokens) continue;
    const int64_t slot =
        (int64_t{rows.token[half]} * args.n_heads + rows.head[half]) * args.scratch.n_pieces +
        piece;
    float* o = args.scratch.o + slot * args.kv.head_dim;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = state_column<kColumns, kRaw>(first_column, n, i, lane);
        if (column < args.kv.head_dim) o[column] = state.o[n][half * 2 + i];
      }
    }
    if (lane % 4 == 0 && first_column == 0) {
      args.scratch.ml[slot * 2] = state.m[half];
      args.scratch.ml[slot * 2 + 1] = state.l[half * 2];
    }
  }
}

template <int kDim, bool kInt8>
inline constexpr int kSlotBytes = kInt8 ? kRawTileBytes<kDim> : kTileBytes<kDim>;

}  // namespace flexq::attention
