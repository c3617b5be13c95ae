// Attention of a decode step, one token per sequence, with what lies between the projections and
// it: the rotation of q and k and the way of k and v into the cache. The bits of cuda_rope_store
// and cuda_attention: a CTA's warps share the same 16 rows as there, piece by piece, and pieces are
// added as attention_combine adds them.
//
// Grid: (n_tokens * pieces, n_kv_heads), the pieces of a token side by side, 4 warps. Where there
// are sequences enough a CTA makes all pieces of its token, one after the other, and keeps the sum
// of finished ones in the place of q: few CTAs begin and end, and nothing is exchanged. The CTA of
// a token's last piece, and it alone, stores the new key and value and reads them back; all others
// only read positions of earlier passes, so every CTA starts its copies of those before it waits
// for the projections. The pieces of a token and KV head are added by its CTAs out of each other's
// shared memory, each a part of the columns, where they are a cluster; else by the last of them to
// be done: a counter decides which CTA that is, not in which order it adds. Counters are 0 before
// and after. Dynamic shared memory: a ring of kRing tiles, K and V alternating (for int8: of codes,
// which each lane converts on their way into a product), what warps exchange, q as fp16, and the
// new row of k and of v. A cluster's pieces take the ring's place.
#include "kernels/cuda/attention_decode_shape.h"
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/kv_rows.cuh"
#include "kernels/cuda/programmatic_launch.cuh"

namespace flexq {
namespace attention {
namespace {

// The forms of the kernel: whether a CTA makes all pieces of its token, tiles of its ring, and CTAs
// that a multiprocessor holds. Few CTAs: deep enough that most of a short piece is on its way while
// the projections are made. Many, one after the other: while some begin or exchange, others read
// (LLaMA-2-7B, 64 sequences of 640 tokens on an H200: 4 CTAs with 3 tiles 7,630 tokens per second,
// 3 with 4 7,594, 2 with 6 6,890). Tiles of codes are half as large.
template <int kDim, bool kInt8>
struct DeepPieces {
  static constexpr bool kWhole = false;
  static constexpr int kTiles = kInt8 ? 8 : 6;
  static constexpr int kCtas = 2;
};
template <int kDim, bool kInt8>
struct ShallowPieces {
  static constexpr bool kWhole = false;
  static constexpr int kTiles = kInt8 ? 5 : 3;
  static constexpr int kCtas = kDim == 256 ? 2 : 4;  // what the registers allow
};
template <int kDim, bool kInt8>
struct WholeTokens : ShallowPieces<kDim, kInt8> {
  static constexpr bool kWhole = true;
};

struct DecodeArgs {
  Args rows;  // as for attend(); `q` is not rotated yet
  const float* k;
  const float* v;
  int64_t k_stride;
  int64_t v_stride;
  const float* cos;
  const float* sin;
  int32_t* counters;    // (n_tokens, n_kv_heads)
  bool piece_clusters;  // the CTAs of a token and KV head are a cluster
};

// What a CTA leaves for its cluster.
template <int kDim>
struct Piece {
  float o[kRowsPerWarp][kDim];
  float m[kRowsPerWarp];
  float l[kRowsPerWarp];
};

template <int kDim, bool kInt8, int kRing>
struct DecodeShared {
  // Halves between two rows of q: the lanes that read one register hit 32 banks.
  static constexpr int kQueryStride = kDim + 8;
  union {
    alignas(128) uint8_t ring[kRing * kSlotBytes<kDim, kInt8>];
    Piece<kDim> piece;
  };
  Exchange<kDim> exchange;
  union {
    alignas(16) __half q[kRowsPerWarp * kQueryStride];
    float sum[kMostWholeGroup][kDim];  // of finished pieces
  };
  float k[kDim];
  float v[kDim];
  bool adds_pieces;
};

// Both elements of a rotated pair, products rounded separately as on the CPU. Not from the L1
// cache: the kernel before has written the row.
__device__ inline float2 rotate_pair(const float* row, const float* cos, const float* sin,
                                     int32_t half, int32_t pair) {
  const float a = __ldcg(row + pair);
  const float b = __ldcg(row + pair + half);
  const float c = cos[pair];
  const float s = sin[pair];
  return make_float2(__fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s)),
                     __fadd_rn(__fmul_rn(b, c), __fmul_rn(a, s)));
}

// The rotated query heads of a KV head as fp16 rows, zeros around them.
template <int kDim, int kStride>
__device__ inline void stage_queries(const DecodeArgs& args, int64_t token, int64_t kv_head,
                                     __half* q) {
  const int32_t half = args.rows.kv.head_dim / 2;
  const float* heads = args.rows.q + token * args.rows.q_stride +
                       kv_head * args.rows.n_group * args.rows.kv.head_dim;
  const float* cos = args.cos + token * half;
  const float* sin = args.sin + token * half;
  const int32_t n_pairs = args.rows.n_group * half;
  for (auto i = static_cast<int32_t>(threadIdx.x); i < n_pairs; i += kKvWarps * 32) {
    const int32_t head = i / half;
    const int32_t pair = i % half;
    const float2 both = rotate_pair(heads + head * args.rows.kv.head_dim, cos, sin, half, pair);
    q[head * kStride + pair] = __float2half_rn(both.x);
    q[head * kStride + pair + half] = __float2half_rn(both.y);
  }
}

// A operands of all steps of 16 columns, for rows g and g + 8.
template <int kDim, bool kInt8, int kStride>
__device__ inline void read_queries(const __half* q, int lane, uint32_t (&a)[kDim / 16][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const __half* row = q + (lane / 4 + half * 8) * kStride;
#pragma unroll
    for (int i = 0; i < kDim / 8; ++i) {
      a[i / 2][i % 2 * 2 + half] =
          *reinterpret_cast<const uint32_t*>(row + column_of_pair<kInt8>(i / 2, i % 2, lane));
    }
  }
}

// The new key, rotated, and the new value into the cache, by all threads, the last ones first: few
// query heads are staged by the first warps alone, at the same time.
__device__ inline void store_new_rows(const DecodeArgs& args, const KvHead& head, int64_t v_offset,
                                      int64_t token, int32_t kv_head, float* k, float* v) {
  const CudaKv& kv = args.rows.kv;
  const int32_t half = kv.head_dim / 2;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const float* k_row = args.k + token * args.k_stride + int64_t{kv_head} * kv.head_dim;
  const float* v_row = args.v + token * args.v_stride + int64_t{kv_head} * kv.head_dim;
  for (int32_t pair = kKvWarps * 32 - 1 - thread; pair < half; pair += kKvWarps * 32) {
    const float2 both =
        rotate_pair(k_row, args.cos + token * half, args.sin + token * half, half, pair);
    k[pair] = both.x;
    k[pair + half] = both.y;
    v[pair] = __ldcg(v_row + pair);
    v[pair + half] = __ldcg(v_row + pair + half);
  }
  __syncthreads();
  const int32_t position = head.n_positions - 1;
  const int32_t slot = position % kKvPageTokens;
  uint8_t* page =
      kv.pages + (head.base - kv.pages) + head.table[position / kKvPageTokens] * kv.page_bytes;
  const int32_t lane = thread % 32;
  if (thread / 32 == 0) {
    store_row(
        kv, [=](int32_t i) { return k[i]; }, slot, page, lane);
  } else if (thread / 32 == 1) {
    store_row(
        kv, [=](int32_t i) { return v[i]; }, slot, page + v_offset, lane);
  }
  __syncthreads();
}

struct PieceElement {
  float o;
  float m;
  float l;
};

// An element of the output: those of the pieces added in ascending order. load(piece) gives a
// PieceElement; a few are fetched at once.
template <typename Load>
__device__ inline float add_pieces(int32_t n_pieces, float scale_log2, const Load& load) {
  constexpr int32_t kAtOnce = 4;
  PieceElement sum = {};
  for (int32_t begin = 0; begin < n_pieces; begin += kAtOnce) {
    PieceElement pieces[kAtOnce];
#pragma unroll
    for (int32_t p = 0; p < kAtOnce; ++p)
      pieces[p] = load(min(begin + p, n_pieces - 1));
#pragma unroll
    for (int32_t p = 0; p < kAtOnce; ++p) {
      if (begin + p >= n_pieces) break;
      if (begin + p == 0) {
        sum = pieces[0];
        continue;
      }
      const PieceWeights w = weigh_piece(sum.m, pieces[p].m, scale_log2);
      sum = {add_piece(w, sum.o, pieces[p].o), w.m, add_piece(w, sum.l, pieces[p].l)};
    }
  }
  return normalize(sum.o, sum.l);
}

// The columns of all heads of a KV head from the pieces in scratch, by all threads.
__device__ inline void add_scratch_pieces(const Args& args, int64_t token, int64_t kv_head,
                                          int32_t n_pieces) {
  const int32_t head_dim = args.kv.head_dim;
  const int32_t n_columns = args.n_group * head_dim;
  for (auto i = static_cast<int32_t>(threadIdx.x); i < n_columns; i += kKvWarps * 32) {
    const int64_t head = kv_head * args.n_group + i / head_dim;
    const int32_t column = i % head_dim;
    const int64_t first = (token * args.n_heads + head) * args.scratch.n_pieces;
    const float* o = args.scratch.o + first * head_dim + column;
    const auto* ml = reinterpret_cast<const float2*>(args.scratch.ml) + first;
    args.out[token * args.out_stride + head * head_dim + column] =
        add_pieces(n_pieces, args.scale_log2, [=](int32_t p) {
          const float2 both = __ldcg(ml + p);
          return PieceElement{__ldcg(o + int64_t{p} * head_dim), both.x, both.y};
        });
  }
}

// The same from the pieces of the CTAs of a cluster, whose ranks are their pieces; each CTA adds a
// part of the columns.
template <int kDim>
__device__ inline void add_cluster_pieces(const Args& args, const Piece<kDim>& own, int64_t token,
                                          int64_t kv_head, int32_t piece, int32_t n_pieces) {
  const int32_t head_dim = args.kv.head_dim;
  const int32_t n_columns = args.n_group * head_dim;
  const int32_t step = n_pieces * kKvWarps * 32;
  for (int32_t i = piece * kKvWarps * 32 + static_cast<int32_t>(threadIdx.x); i < n_columns;
       i += step) {
    const int32_t row = i / head_dim;
    const int32_t column = i % head_dim;
    args.out[token * args.out_stride + (kv_head * args.n_group + row) * head_dim + column] =
        add_pieces(n_pieces, args.scale_log2, [=, &own](int32_t p) {
          return PieceElement{load_shared_of(&own.o[row][column], p),
                              load_shared_of(&own.m[row], p), load_shared_of(&own.l[row], p)};
        });
  }
}

// o, m and l of the query heads of a KV head into shared memory.
template <int kDim, bool kRaw, int kColumns>
__device__ inline void keep_piece(const State<kColumns>& state, int first_column, int lane,
                                  Piece<kDim>& piece) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + half * 8;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        piece.o[row][state_column<kColumns, kRaw>(first_column, n, i, lane)] =
            state.o[n][half * 2 + i];
      }
    }
    if (lane % 4 == 0 && first_column == 0) {
      piece.m[row] = state.m[half];
      piece.l[row] = state.l[half * 2];
    }
  }
}

// The sum of finished pieces of the rows below kMostWholeGroup, which all have the same positions:
// o in shared memory, m and l of the lane's row in registers.
struct RowSum {
  float m;
  float l;
};
template <int kDim, bool kRaw, int kColumns>
__device__ inline RowSum set_aside(const State<kColumns>& state, int first_column, int lane,
                                   float (&sum)[kMostWholeGroup][kDim]) {
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum[lane / 4][state_column<kColumns, kRaw>(first_column, n, i, lane)] = state.o[n][i];
    }
  }
  return {state.m[0], state.l[0]};
}
// Turns `state`, a finished piece, into the sum of it and all before.
template <int kDim, bool kRaw, int kColumns>
__device__ inline void add_sum(const RowSum& before, const float (&sum)[kMostWholeGroup][kDim],
                               float scale_log2, int first_column, int lane,
                               State<kColumns>& state) {
  const PieceWeights w = weigh_piece(before.m, state.m[0], scale_log2);
  state.m[0] = w.m;
  state.l[0] = add_piece(w, before.l, state.l[0]);
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = state_column<kColumns, kRaw>(first_column, n, i, lane);
      state.o[n][i] = add_piece(w, sum[lane / 4][column], state.o[n][i]);
    }
  }
}

template <int kDim, bool kInt8, typename Form>
__global__ void __launch_bounds__(kKvWarps * 32, Form::kCtas)
    attend_decode(const __grid_constant__ DecodeArgs args) {
  using Tiles = KvTiles<kDim, kInt8>;
  using P = Part<kDim, true>;
  constexpr bool kWhole = Form::kWhole;
  constexpr int kRing = Form::kTiles;
  using Shared = DecodeShared<kDim, kInt8, kRing>;
  constexpr int kPositions = kTilePositions<kDim>;
  extern __shared__ __align__(128) uint8_t decode_shared[];
  auto& shared = *reinterpret_cast<Shared*>(decode_shared);
  const Args& rows_args = args.rows;
  const CudaKv& kv = rows_args.kv;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int32_t n_pieces = kWhole ? 1 : rows_args.n_pieces;
  const int32_t token = static_cast<int32_t>(blockIdx.x) / n_pieces;
  const int32_t piece = static_cast<int32_t>(blockIdx.x) % n_pieces;
  const auto kv_head = static_cast<int32_t>(blockIdx.y);
  const int32_t position = rows_args.positions[token];
  const int32_t last_piece = position / kPieceTokens;
  if (piece > last_piece) return;
  const bool has_new = kWhole || piece == last_piece;
  const int32_t begin = kWhole ? 0 : piece * kPieceTokens;
  const int32_t end = kWhole ? position + 1 : min(begin + kPieceTokens, position + 1);

  const int32_t* table = kv.block_tables + rows_args.sequences[token] * kv.pages_per_sequence;
  const KvHead head = {kv.pages + kv.layer_offset + kv_head * kv.head_bytes, table, kv.page_bytes,
                       kv.head_dim, position + 1};
  // V follows all heads of K.
  const int64_t v_offset = kv.n_kv_heads * kv.head_bytes;
  // Step 2i is the keys of tile i, step 2i + 1 its values. The new row is in the last tile.
  const int n_tiles = (end - begin + kPositions - 1) / kPositions;
  const int n_steps = n_tiles * 2;
  const int n_old_steps = has_new ? n_steps - 2 : n_steps;
  int32_t page = 0;
  int32_t next_page = Tiles::page_of(head, begin);
  int copy_step = 0;
  int copy_slot = 0;
  const auto copy = [&] {
    if (copy_step < n_steps) {
      const int32_t first = begin + copy_step / 2 * kPositions;
      KvHead keys_or_values = head;
      if (copy_step % 2 == 0) {
        page = next_page;
        next_page = Tiles::page_of(head, first + kPositions);
      } else {
        keys_or_values.base += v_offset;
      }
      Tiles::copy(keys_or_values, page, first, shared.ring + copy_slot * kSlotBytes<kDim, kInt8>);
    }
    float_copy::commit();
    ++copy_step;
    copy_slot = copy_slot + 1 == kRing ? 0 : copy_slot + 1;
  };
  const int n_early = min(kRing - 1, n_old_steps);
  for (int i = 0; i < n_early; ++i)
    copy();
  constexpr int kQueryVectors = static_cast<int>(sizeof(shared.q) / sizeof(uint4));
  for (auto i = static_cast<int>(threadIdx.x); i < kQueryVectors; i += kKvWarps * 32)
    reinterpret_cast<uint4*>(shared.q)[i] = make_uint4(0, 0, 0, 0);
  __syncthreads();

  wait_for_kernel_before();
  stage_queries<kDim, Shared::kQueryStride>(args, token, kv_head, shared.q);
  if (has_new) store_new_rows(args, head, v_offset, token, kv_head, shared.k, shared.v);
  for (int i = n_early; i < kRing - 1; ++i)
    copy();
  let_next_kernel_start();
  __syncthreads();
  uint32_t q[kDim / 16][4];
  read_queries<kDim, kInt8, Shared::kQueryStride>(shared.q, lane, q);

  LaneRows rows;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int32_t row = lane / 4 + half * 8;
    rows.token[half] = token;
    rows.head[half] = kv_head * rows_args.n_group + min(row, rows_args.n_group - 1);
    rows.position[half] = row < rows_args.n_group ? position : -1;
  }
  const int first_column = P::first_column(warp);
  const bool has_columns = P::has_columns(warp);
  State<P::kColumns> state;
  state.reset();
  // The next step's tile: waits for it, starts the copy that takes the place of the last one.
  int slot = 0;
  const auto next_tile = [&]() -> const uint8_t* {
    float_copy::wait_group<kRing - 2>();
    __syncthreads();
    copy();
    const uint8_t* arrived = shared.ring + slot * kSlotBytes<kDim, kInt8>;
    slot = slot + 1 == kRing ? 0 : slot + 1;
    return arrived;
  };
  RowSum before;
#pragma unroll 1
  for (int32_t piece_first = begin; piece_first < end; piece_first += kPieceTokens) {
    const int32_t piece_end = min(piece_first + kPieceTokens, end);
#pragma unroll 1
    for (int32_t first = piece_first; first < piece_end; first += kPositions) {
      const uint8_t* keys = next_tile();
      float s[P::kKeys][4];
      float largest[2];
      uint32_t p[P::kKeys][2];
      const int first_key = P::first_key(warp) * 8;
      if constexpr (kInt8) {
        multiply_raw_keys<kDim>(q, keys, first_key, lane, s);
      } else {
        multiply_keys<kDim>(q, keys, first_key, lane, s);
      }
      if (first + kPositions - 1 > position) mask(rows, first + first_key, lane, s);
      find_largest<kDim, true>(s, state.m, warp, lane, &shared.exchange, largest);
      soften(s, largest, rows_args.scale_log2, state, p);
      // Half an operand per 8 positions.
#pragma unroll
      for (int n = 0; n < P::kKeys; ++n) {
        const int key = P::first_key(warp) + n;
        reinterpret_cast<uint2*>(&shared.exchange.p[key / 2][lane])[key % 2] =
            make_uint2(p[n][0], p[n][1]);
      }
      // Its barrier also shows all of p to all warps.
      const uint8_t* values = next_tile();
      if (!has_columns) continue;
#pragma unroll
      for (int i = 0; i < kPositions / 16; ++i) {
        const uint4 both = shared.exchange.p[i][lane];
        const uint32_t a[4] = {both.x, both.y, both.z, both.w};
        if constexpr (kInt8) {
          multiply_raw_values<kDim>(a, values, i, first_column, lane, state);
        } else {
          multiply_values<kDim>(a, values, i, first_column, lane, state);
        }
      }
    }
    if (kWhole && has_columns) {
      if (piece_first > 0) {
        add_sum<kDim, kInt8>(before, shared.sum, rows_args.scale_log2, first_column, lane, state);
      }
      if (piece_end < end) before = set_aside<kDim, kInt8>(state, first_column, lane, shared.sum);
    }
    if (kWhole && piece_end < end) state.reset();
  }
  if (kWhole || last_piece == 0) {
    if (has_columns) store_rows<kInt8>(rows_args, rows, state, first_column, lane, position);
    return;
  }
  if (args.piece_clusters) {
    __syncthreads();  // of the ring: all tiles are read
    if (has_columns) keep_piece<kDim, kInt8>(state, first_column, lane, shared.piece);
    cluster_sync();
    add_cluster_pieces(rows_args, shared.piece, token, kv_head, piece, last_piece + 1);
    cluster_sync();  // nobody ends while others read its piece
    return;
  }
  if (has_columns) store_piece<kInt8>(rows_args, rows, state, piece, first_column, lane);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t* counter = args.counters + int64_t{token} * kv.n_kv_heads + kv_head;
    shared.adds_pieces = atomicAdd(counter, 1) == last_piece;
    if (shared.adds_pieces) *counter = 0;
  }
  __syncthreads();
  if (!shared.adds_pieces) return;
  __threadfence();
  add_scratch_pieces(rows_args, token, kv_head, last_piece + 1);
}

template <int kDim, bool kInt8, typename Form>
cudaError_t launch_form(const CudaLaunch& where, int32_t n_tokens, DecodeArgs args) {
  using Shared = DecodeShared<kDim, kInt8, Form::kTiles>;
  const int32_t n_pieces = Form::kWhole ? 1 : args.rows.n_pieces;
  const dim3 grid(static_cast<unsigned>(n_tokens * n_pieces),
                  static_cast<unsigned>(args.rows.kv.n_kv_heads));
  const AttentionPlacement placement =
      place_attention(int64_t{grid.x} * grid.y, n_pieces, where.n_sms, sizeof(Shared));
  args.rows.n_pieces = n_pieces;
  args.piece_clusters = placement.n_cluster > 1;
  return launch_overlapping_clusters(where, static_cast<uint32_t>(placement.n_cluster),
                                     attend_decode<kDim, kInt8, Form>, grid, dim3(kKvWarps * 32),
                                     static_cast<size_t>(placement.shared_bytes), args);
}

template <int kDim, bool kInt8>
cudaError_t launch_decode(const CudaLaunch& where, int32_t n_tokens, const DecodeArgs& args) {
  using Deep = DeepPieces<kDim, kInt8>;
  const int64_t n_rows = int64_t{n_tokens} * args.rows.kv.n_kv_heads;
  if (attends_whole(n_rows, args.rows.n_group, where.n_sms))
    return launch_form<kDim, kInt8, WholeTokens<kDim, kInt8>>(where, n_tokens, args);
  return n_rows * args.rows.n_pieces <= int64_t{Deep::kCtas} * where.n_sms
             ? launch_form<kDim, kInt8, Deep>(where, n_tokens, args)
             : launch_form<kDim, kInt8, ShallowPieces<kDim, kInt8>>(where, n_tokens, args);
}

template <int kDim>
cudaError_t launch_type(const CudaLaunch& where, int32_t n_tokens, const DecodeArgs& args) {
  return args.rows.kv.int8 ? launch_decode<kDim, true>(where, n_tokens, args)
                           : launch_decode<kDim, false>(where, n_tokens, args);
}

}  // namespace
}  // namespace attention

cudaError_t cuda_decode_attention(const CudaLaunch& where, const CudaBatch& batch, const CudaKv& kv,
                                  int32_t n_heads, CudaRows q, CudaRows k, CudaRows v, CudaRows out,
                                  uint8_t* scratch) {
  using namespace attention;
  if (kv.page_tokens != kKvPageTokens || batch.longest_run != 1) return cudaErrorInvalidValue;
  // log2(e) / sqrt(head_dim)
  const double scale_log2 = 1.4426950408889634 / sqrt(static_cast<double>(kv.head_dim));
  const int32_t n_pieces = (batch.most_positions + kPieceTokens - 1) / kPieceTokens;
  DecodeArgs args = {};
  args.rows.kv = kv;
  args.rows.positions = batch.positions;
  args.rows.sequences = batch.sequences;
  args.rows.q = q.data;
  args.rows.out = out.data;
  args.rows.q_stride = q.stride;
  args.rows.out_stride = out.stride;
  args.rows.n_heads = n_heads;
  args.rows.n_group = n_heads / kv.n_kv_heads;
  args.rows.n_pieces = n_pieces;
  args.rows.scale_log2 = static_cast<float>(scale_log2);
  auto* o = reinterpret_cast<float*>(scratch);
  args.rows.scratch = {o, o + int64_t{batch.n_tokens} * n_heads * n_pieces * kv.head_dim, n_pieces};
  args.k = k.data;
  args.v = v.data;
  args.k_stride = k.stride;
  args.v_stride = v.stride;
  args.cos = batch.cos;
  args.sin = batch.sin;
  args.counters = batch.counters;
  if (kv.head_dim <= 16) return launch_type<16>(where, batch.n_tokens, args);
  if (kv.head_dim <= 32) return launch_type<32>(where, batch.n_tokens, args);
  if (kv.head_dim <= 64) return launch_type<64>(where, batch.n_tokens, args);
  if (kv.head_dim <= 128) return launch_type<128>(where, batch.n_tokens, args);
  return launch_type<256>(where, batch.n_tokens, args);
}

}  // namespace flexq
