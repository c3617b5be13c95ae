// Attention over the paged cache, one algorithm for decode and prefill: a row's bits depend on its
// own q, its position and the keys and values up to there.
//
// A row is one query head of one token; rows of a run of tokens that share a KV head are numbered
// (token, head in the group). A warp takes 16 rows as the M of mma.m16n8k16, in fp16 with fp32
// sums, and walks the KV length in tiles from position 0 on:
//     s = q k^T;  m' = max(m, s);  p = fp16(2^((s - m') c)), c = log2(e) / sqrt(head_dim)
//     o = o 2^((m - m') c) + p v;  l likewise, a column of ones beside v
// Positions after the row's own have s = -infinity. A tile of nothing else leaves m, l and o as
// they are (times 1, plus 0). Every kPieceTokens positions the state is set aside and started anew
// (attention_combine.cuh).
//
// Grid: (row tiles of a run * runs * pieces, n_kv_heads), kWarps warps that share each tile of K or
// V. With many tokens a CTA makes all pieces of its rows one after the other (n_pieces of the
// arguments is 1) and keeps the sum of finished pieces in shared memory; with few, one CTA makes
// one piece and attention_combine adds them. Dynamic shared memory: a ring of three tiles filled by
// cp.async two steps ahead, K and V alternating (for int8: of codes, and one converted tile), then
// (kWarps, 16, kDim) floats of finished pieces.
#include "kernels/cuda/attention_combine.cuh"
#include "kernels/cuda/kv_tiles.cuh"

namespace flexq {
namespace attention {
namespace {

constexpr int kRowsPerWarp = 16;
constexpr int kRing = 3;
// Above this number of tokens a pass has rows enough to fill the processors without pieces.
constexpr int64_t kMostSplitTokens = 64;

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
  int32_t tiles_per_run;
  int32_t n_pieces;  // CTAs along the KV length
  float scale_log2;
  PieceScratch scratch;
};

// The 16 rows of a warp as one lane sees them: rows g and g + 8.
struct LaneRows {
  int32_t token[2];
  int32_t head[2];      // of all query heads
  int32_t position[2];  // -1: no such row
};

template <int kDim>
struct State {
  float o[kDim / 8][4];
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
template <int kDim>
__device__ inline void load_q(const Args& args, const LaneRows& rows, int lane,
                              uint32_t (&q)[kDim / 16][4]) {
  const int32_t head_dim = args.kv.head_dim;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float* row =
        args.q + int64_t{rows.token[half]} * args.q_stride + int64_t{rows.head[half]} * head_dim;
#pragma unroll
    for (int i = 0; i < kDim / 8; ++i) {
      const int column = i * 8 + lane % 4 * 2;
      const float low = column < head_dim ? row[column] : 0.0f;
      const float high = column + 1 < head_dim ? row[column + 1] : 0.0f;
      q[i / 2][i % 2 * 2 + half] = pack_halves(low, high);
    }
  }
}

// s = q k^T for a tile of keys, k-steps in ascending order.
template <int kDim>
__device__ inline void multiply_keys(const uint32_t (&q)[kDim / 16][4], const uint8_t* tile,
                                     int lane, float (&s)[kTilePositions<kDim> / 8][4]) {
  constexpr int kTiles = kTilePositions<kDim> / 8;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
  }
  if constexpr (kDim == 16) {
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t b[4];
      load_matrices(b, tile + tile_offset<kDim>((n + lane / 16) * 8 + lane % 8, lane / 8 % 2));
      mma_m16n8k16(s[n], q[0], b[0], b[1]);
      mma_m16n8k16(s[n + 1], q[0], b[2], b[3]);
    }
  } else {
#pragma unroll
    for (int step = 0; step < kDim / 16; step += 2) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        uint32_t b[4];
        load_matrices(b, tile + tile_offset<kDim>(n * 8 + lane % 8, step * 2 + lane / 8));
        mma_m16n8k16(s[n], q[step], b[0], b[1]);
        mma_m16n8k16(s[n], q[step + 1], b[2], b[3]);
      }
    }
  }
}

// Scores to p as A operands of the product with v; rescales the state to the new maximum.
template <int kDim>
__device__ inline void soften(const LaneRows& rows, int32_t tile_first, int lane, float scale_log2,
                              float (&s)[kTilePositions<kDim> / 8][4], State<kDim>& state,
                              uint32_t (&p)[kTilePositions<kDim> / 16][4]) {
  constexpr int kTiles = kTilePositions<kDim> / 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = state.m[half];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = s[n][half * 2 + i];
        if (tile_first + n * 8 + lane % 4 * 2 + i > rows.position[half]) score = -INFINITY;
        largest = fmaxf(largest, score);
      }
    }
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
    // A row that has seen no position yet: 0 keeps infinities from meeting.
    const float reference = largest == -INFINITY ? 0.0f : largest;
    const float rescale = exp2_approx(__fmul_rn(__fsub_rn(state.m[half], reference), scale_log2));
    state.m[half] = largest;
    const float shift = __fmul_rn(-reference, scale_log2);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const float low = exp2_approx(__fmaf_rn(s[n][half * 2], scale_log2, shift));
      const float high = exp2_approx(__fmaf_rn(s[n][half * 2 + 1], scale_log2, shift));
      p[n / 2][n % 2 * 2 + half] = pack_halves(low, high);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      state.l[half * 2 + i] = __fmul_rn(state.l[half * 2 + i], rescale);
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n)
        state.o[n][half * 2 + i] = __fmul_rn(state.o[n][half * 2 + i], rescale);
    }
  }
}

// o += p v and l += p 1, k-steps in ascending order.
template <int kDim>
__device__ inline void multiply_values(const uint32_t (&p)[kTilePositions<kDim> / 16][4],
                                       const uint8_t* tile, int lane, State<kDim>& state) {
  constexpr uint32_t kOnes = 0x3c003c00u;
#pragma unroll
  for (int step = 0; step < kTilePositions<kDim> / 16; ++step) {
    mma_m16n8k16(state.l, p[step], kOnes, kOnes);
#pragma unroll
    for (int n = 0; n < kDim / 8; n += 2) {
      uint32_t b[4];
      load_matrices_transposed(b, tile + tile_offset<kDim>(step * 16 + lane % 16, n + lane / 16));
      mma_m16n8k16(state.o[n], p[step], b[0], b[1]);
      mma_m16n8k16(state.o[n + 1], p[step], b[2], b[3]);
    }
  }
}

// The sum of finished pieces waits in shared memory, (kDim / 8, 32) vectors of 4 floats per warp,
// and in two registers per row.
template <int kDim>
__device__ inline void park(const State<kDim>& state, float4* parked, float (&sum_m)[2],
                            float (&sum_l)[2], int lane) {
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n) {
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
template <int kDim>
__device__ inline void add_to_sum(const LaneRows& rows, int32_t piece_first, float scale_log2,
                                  const float4* parked, const float (&sum_m)[2],
                                  const float (&sum_l)[2], State<kDim>& state, int lane) {
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
  for (int n = 0; n < kDim / 8; ++n) {
    const float4 before = parked[n * 32 + lane];
    const float old[4] = {before.x, before.y, before.z, before.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      state.o[n][i] = adds[i / 2] ? add_piece(weights[i / 2], old[i], state.o[n][i]) : old[i];
    }
  }
}

// o / l to the output.
template <int kDim>
__device__ inline void store_rows(const Args& args, const LaneRows& rows, const State<kDim>& state,
                                  int lane, int32_t most_position) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows.position[half] < 0 || rows.position[half] > most_position) continue;
    float* out = args.out + int64_t{rows.token[half]} * args.out_stride +
                 int64_t{rows.head[half]} * args.kv.head_dim;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = n * 8 + lane % 4 * 2 + i;
        if (column < args.kv.head_dim)
          out[column] = normalize(state.o[n][half * 2 + i], state.l[half * 2]);
      }
    }
  }
}

// o, m and l to scratch, for rows of more than one piece that have positions in this one.
template <int kDim>
__device__ inline void store_piece(const Args& args, const LaneRows& rows, const State<kDim>& state,
                                   int32_t piece, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int32_t position = rows.position[half];
    if (position < kPieceTokens || position < piece * kPieceTokens) continue;
    const int64_t slot =
        (int64_t{rows.token[half]} * args.n_heads + rows.head[half]) * args.scratch.n_pieces +
        piece;
    float* o = args.scratch.o + slot * args.kv.head_dim;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = n * 8 + lane % 4 * 2 + i;
        if (column < args.kv.head_dim) o[column] = state.o[n][half * 2 + i];
      }
    }
    if (lane % 4 == 0) {
      args.scratch.ml[slot * 2] = state.m[half];
      args.scratch.ml[slot * 2 + 1] = state.l[half * 2];
    }
  }
}

template <int kDim, bool kInt8>
constexpr int kRingBytes =
    kInt8 ? kRing* kRawTileBytes<kDim> + kTileBytes<kDim> : kRing* kTileBytes<kDim>;
template <int kDim>
constexpr int kParkedBytes = kRowsPerWarp* kDim * 4;  // per warp

template <int kDim, bool kInt8, int kWarps>
__global__ void __launch_bounds__(kWarps * 32) attend(const Args args) {
  using Tiles = KvTiles<kDim, kInt8, kWarps>;
  constexpr int kPositions = kTilePositions<kDim>;
  constexpr int kSlotBytes = kInt8 ? kRawTileBytes<kDim> : kTileBytes<kDim>;
  static_assert(kPieceTokens % kPositions == 0, "pieces are whole tiles");
  extern __shared__ __align__(128) uint8_t kv_ring[];

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t kv_head = blockIdx.y;
  // The last rows of a run have the most positions: they go first.
  const int64_t x = blockIdx.x;
  const int64_t tile = args.tiles_per_run - 1 - x % args.tiles_per_run;
  const int64_t run = x / args.tiles_per_run % args.n_runs;
  const auto piece = static_cast<int32_t>(x / args.tiles_per_run / args.n_runs);
  const bool split = args.n_pieces > 1;

  const int64_t run_begin = args.run_begins[run];
  const int64_t n_rows = (args.run_begins[run + 1] - run_begin) * args.n_group;
  const int64_t cta_row = tile * kWarps * kRowsPerWarp;
  if (cta_row >= n_rows) return;
  const int64_t cta_last_row = min(cta_row + kWarps * kRowsPerWarp, n_rows) - 1;
  const int32_t kv_end = args.positions[run_begin + cta_last_row / args.n_group] + 1;
  const int32_t begin = piece * kPieceTokens;
  if (begin >= kv_end) return;
  const int32_t end = split ? min(begin + kPieceTokens, kv_end) : kv_end;

  const int64_t warp_row = cta_row + warp * kRowsPerWarp;
  const LaneRows rows = lane_rows(args, run_begin, warp_row, n_rows, kv_head, lane);
  // -1 where the warp has no rows.
  const int64_t warp_last_row = min(warp_row + kRowsPerWarp, n_rows) - 1;
  const int32_t warp_position =
      warp_row < n_rows ? args.positions[run_begin + warp_last_row / args.n_group] : -1;

  const CudaKv& kv = args.kv;
  const int64_t table_row = int64_t{args.sequences[run_begin]} * kv.pages_per_sequence;
  // V follows all heads of K.
  const int64_t v_offset = kv.n_kv_heads * kv.head_bytes;
  const KvHead head = {kv.pages + kv.layer_offset + kv_head * kv.head_bytes,
                       kv.block_tables + table_row, kv.page_bytes, kv.head_dim, kv_end};
  const auto keys_or_values = [&](int step) {
    KvHead chosen = head;
    chosen.base += step % 2 * v_offset;
    return chosen;
  };
  // Step 2i is the keys of tile i, step 2i + 1 its values.
  const int n_steps = (end - begin + kPositions - 1) / kPositions * 2;
  const auto copy = [&](int step) {
    if (step < n_steps) {
      Tiles::copy(keys_or_values(step), begin + step / 2 * kPositions,
                  kv_ring + step % kRing * kSlotBytes);
    }
    float_copy::commit();
  };
#pragma unroll
  for (int step = 0; step < kRing - 1; ++step)
    copy(step);

  uint32_t q[kDim / 16][4];
  load_q<kDim>(args, rows, lane, q);
  auto* parked =
      reinterpret_cast<float4*>(kv_ring + kRingBytes<kDim, kInt8> + warp * kParkedBytes<kDim>);
  float sum_m[2] = {};
  float sum_l[2] = {};
  State<kDim> state;
  state.reset();

  // The next step's tile: waits for it, starts the copy that takes the place of the last one.
  const auto next_tile = [&](int step) -> const uint8_t* {
    float_copy::wait_group<kRing - 2>();
    __syncthreads();
    copy(step + kRing - 1);
    const uint8_t* slot = kv_ring + step % kRing * kSlotBytes;
    if constexpr (!kInt8) {
      return slot;
    } else {
      uint8_t* converted = kv_ring + kRing * kSlotBytes;
      Tiles::convert(keys_or_values(step), begin + step / 2 * kPositions, slot, converted);
      __syncthreads();
      return converted;
    }
  };

  int step = 0;
  for (int32_t piece_first = begin; piece_first < end; piece_first += kPieceTokens) {
    const int32_t piece_end = min(piece_first + kPieceTokens, end);
#pragma unroll 1
    for (int32_t first = piece_first; first < piece_end; first += kPositions, step += 2) {
      const bool wanted = first <= warp_position;
      uint32_t p[kPositions / 16][4];
      const uint8_t* keys = next_tile(step);
      if (wanted) {
        float s[kPositions / 8][4];
        multiply_keys<kDim>(q, keys, lane, s);
        soften<kDim>(rows, first, lane, args.scale_log2, s, state, p);
      }
      const uint8_t* values = next_tile(step + 1);
      if (wanted) multiply_values<kDim>(p, values, lane, state);
    }
    // A warp that is past its last position keeps what it has.
    if (!split && piece_first <= warp_position) {
      if (piece_first > 0)
        add_to_sum<kDim>(rows, piece_first, args.scale_log2, parked, sum_m, sum_l, state, lane);
      if (piece_end <= warp_position) {
        park<kDim>(state, parked, sum_m, sum_l, lane);
        state.reset();
      }
    }
  }
  if (split) store_piece<kDim>(args, rows, state, piece, lane);
  if (piece == 0) {
    store_rows<kDim>(args, rows, state, lane, split ? kPieceTokens - 1 : warp_position);
  }
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Dynamic shared memory that a CTA may ask for.
constexpr size_t shared_limit(int32_t sm) {
  const size_t kib = sm >= 90 && sm < 120 ? 227 : sm == 80 || sm == 87 ? 163 : sm >= 80 ? 99 : 64;
  return kib * 1024;
}

template <int kDim, bool kInt8, int kWarps>
cudaError_t launch_warps(const CudaLaunch& where, const CudaBatch& batch, Args args,
                         size_t shared_bytes) {
  args.tiles_per_run = static_cast<int32_t>(
      ceil_div(int64_t{batch.longest_run} * args.n_group, kWarps * kRowsPerWarp));
  const int64_t ctas = int64_t{args.tiles_per_run} * args.n_runs * args.n_pieces;
  if (ctas > INT32_MAX) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(ctas), static_cast<unsigned>(args.kv.n_kv_heads));
  return launch(where, attend<kDim, kInt8, kWarps>, grid, dim3(kWarps * 32), shared_bytes, args);
}

template <int kDim, bool kInt8>
cudaError_t launch_dim(const CudaLaunch& where, const CudaBatch& batch, const Args& args) {
  constexpr int kManyWarps = 4;
  const bool parks = args.n_pieces == 1 && batch.most_positions > kPieceTokens;
  const auto shared_bytes = [&](int warps) {
    return static_cast<size_t>(kRingBytes<kDim, kInt8> + (parks ? warps * kParkedBytes<kDim> : 0));
  };
  const bool many = int64_t{batch.longest_run} * args.n_group > kRowsPerWarp;
  if (many && shared_bytes(kManyWarps) <= shared_limit(where.sm)) {
    return launch_warps<kDim, kInt8, kManyWarps>(where, batch, args, shared_bytes(kManyWarps));
  }
  return launch_warps<kDim, kInt8, 1>(where, batch, args, shared_bytes(1));
}

template <int kDim>
cudaError_t launch_type(const CudaLaunch& where, const CudaBatch& batch, const Args& args) {
  return args.kv.int8 ? launch_dim<kDim, true>(where, batch, args)
                      : launch_dim<kDim, false>(where, batch, args);
}

cudaError_t launch_attend(const CudaLaunch& where, const CudaBatch& batch, const Args& args) {
  const int32_t head_dim = args.kv.head_dim;
  if (head_dim <= 16) return launch_type<16>(where, batch, args);
  if (head_dim <= 32) return launch_type<32>(where, batch, args);
  if (head_dim <= 64) return launch_type<64>(where, batch, args);
  if (head_dim <= 128) return launch_type<128>(where, batch, args);
  if (head_dim <= 256) return launch_type<256>(where, batch, args);
  return cudaErrorInvalidValue;
}

// Whether CTAs take one piece each.
bool splits(int64_t n_tokens, int64_t most_positions) {
  return n_tokens <= kMostSplitTokens && most_positions > kPieceTokens;
}

}  // namespace
}  // namespace attention

cudaError_t cuda_attention(const CudaLaunch& where, const CudaBatch& batch, const CudaKv& kv,
                           int32_t n_heads, CudaRows q, CudaRows out, uint8_t* scratch) {
  using namespace attention;
  if (kv.page_tokens != kKvPageTokens || n_heads % kv.n_kv_heads != 0) return cudaErrorInvalidValue;
  // log2(e) / sqrt(head_dim)
  const double scale_log2 = 1.4426950408889634 / sqrt(static_cast<double>(kv.head_dim));
  const bool split = splits(batch.n_tokens, batch.most_positions);
  const auto n_pieces = static_cast<int32_t>(ceil_div(batch.most_positions, kPieceTokens));
  Args args = {};
  args.kv = kv;
  args.positions = batch.positions;
  args.sequences = batch.sequences;
  args.run_begins = batch.run_begins;
  args.q = q.data;
  args.out = out.data;
  args.q_stride = q.stride;
  args.out_stride = out.stride;
  args.n_heads = n_heads;
  args.n_group = n_heads / kv.n_kv_heads;
  args.n_runs = batch.n_runs;
  args.n_pieces = split ? n_pieces : 1;
  args.scale_log2 = static_cast<float>(scale_log2);
  if (split) {
    auto* o = reinterpret_cast<float*>(scratch);
    args.scratch = {o, o + int64_t{batch.n_tokens} * n_heads * n_pieces * kv.head_dim, n_pieces};
  }
  const cudaError_t error = launch_attend(where, batch, args);
  if (error != cudaSuccess || !split) return error;
  const int32_t threads = (kv.head_dim + 31) / 32 * 32;
  return launch(where, attention_combine,
                dim3(static_cast<unsigned>(batch.n_tokens), static_cast<unsigned>(n_heads)),
                dim3(static_cast<unsigned>(threads)), 0, args.scratch, batch.positions, out.data,
                out.stride, kv.head_dim, args.scale_log2);
}

int64_t cuda_attention_scratch_bytes(int32_t n_heads, int32_t head_dim, int64_t n_tokens,
                                     int64_t context_tokens) {
  using namespace attention;
  if (context_tokens <= kPieceTokens) return 0;
  const int64_t n_pieces = ceil_div(context_tokens, kPieceTokens);
  const int64_t tokens = n_tokens < kMostSplitTokens ? n_tokens : kMostSplitTokens;
  return tokens * n_heads * n_pieces * (head_dim + 2) * int64_t{sizeof(float)};
}

}  // namespace flexq
