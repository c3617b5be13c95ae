// Attention over the paged cache, one algorithm for decode and prefill: a row's bits depend on its
// own q, its position and the keys and values up to there.
//
// A row is one query head of one token; rows of a run of tokens that share a KV head are numbered
// (token, head in the group). 16 rows are the M of mma.m16n8k16, in fp16 with fp32 sums, and walk
// the KV length in tiles from position 0 on:
//     s = q k^T;  m' = max(m, s);  p = fp16(2^((s - m') c)), c = log2(e) / sqrt(head_dim)
//     o = o 2^((m - m') c) + p v;  l likewise, a column of ones beside v
// Positions after the row's own have s = -infinity. A tile of nothing else leaves m, l and o as
// they are (times 1, plus 0). Every kPieceTokens positions the state is set aside and started anew
// (attention_combine.cuh).
//
// Grid: (row tiles of a run * runs * pieces, n_kv_heads), 4 warps that share each tile of K or V.
// Either every warp has 16 rows of its own (prefill), or all have the same 16 (decode): then each
// makes a quarter of the scores and a quarter of the columns of o, and they exchange maxima and p
// through shared memory. Who makes an element changes nothing in how it is made.
// With many tokens a CTA makes all pieces of its rows one after the other (n_pieces of the
// arguments is 1) and keeps the sum of finished pieces in shared memory; with few, one CTA makes
// one piece and attention_combine adds them. Dynamic shared memory: a ring of three tiles filled by
// cp.async two steps ahead, K and V alternating (for int8: of codes, and one converted tile), then
// 16 x kDim floats of finished pieces for each 16 rows, then what warps exchange.
#include <type_traits>

#include "kernels/cuda/attention_combine.cuh"
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/programmatic_launch.cuh"
#include "kernels/cuda/shared_limit.h"

namespace flexq {
namespace attention {
namespace {

constexpr int kRing = 3;  // tiles in shared memory

// With the converted tile of int8.
template <int kDim, bool kInt8>
constexpr int kRingBytes = kRing* kSlotBytes<kDim, kInt8> + (kInt8 ? kTileBytes<kDim> : 0);
// Per warp.
template <int kDim, bool kTogether>
constexpr int kParkedBytes = Part<kDim, kTogether>::kColumns * 32 * 16;

// CTAs per multiprocessor that the registers must allow: decode needs several to hide how each
// begins, with a chain of look-ups.
template <int kDim, bool kTogether>
constexpr int kLeastCtas = !kTogether    ? 1
                           : kDim == 256 ? 2
                                         : 3;

template <int kDim, bool kInt8, bool kTogether>
__global__ void __launch_bounds__(kKvWarps * 32, kLeastCtas<kDim, kTogether>)
    attend(const Args args) {
  using Tiles = KvTiles<kDim, kInt8>;
  using P = Part<kDim, kTogether>;
  constexpr int kPositions = kTilePositions<kDim>;
  constexpr int kCtaRows = kRowsPerWarp * kKvWarps / P::kShare;
  static_assert(kPieceTokens % kPositions == 0, "pieces are whole tiles");
  extern __shared__ __align__(128) uint8_t kv_ring[];
  take_turn();

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t kv_head = blockIdx.y;
  // The last rows of a run have the most positions: they go first.
  const int64_t x = blockIdx.x;
  const int64_t tile = args.tiles_per_run - 1 - x % args.tiles_per_run;
  const int64_t run = x / args.tiles_per_run % args.n_runs;
  const auto piece = static_cast<int32_t>(x / args.tiles_per_run / args.n_runs);
  const bool split = args.n_pieces > 1;

  // Runs of one token each are the tokens themselves.
  const int64_t run_begin = args.single_tokens ? run : args.run_begins[run];
  const int64_t run_end = args.single_tokens ? run + 1 : args.run_begins[run + 1];
  const int64_t n_rows = (run_end - run_begin) * args.n_group;
  const int64_t cta_row = tile * kCtaRows;
  if (cta_row >= n_rows) return;
  const int64_t cta_last_row = min(cta_row + kCtaRows, n_rows) - 1;
  const int32_t kv_end = args.positions[run_begin + cta_last_row / args.n_group] + 1;
  const int32_t begin = piece * kPieceTokens;
  if (begin >= kv_end) return;
  const int32_t end = split ? min(begin + kPieceTokens, kv_end) : kv_end;

  const int64_t warp_row = kTogether ? cta_row : cta_row + warp * kRowsPerWarp;
  const LaneRows rows = lane_rows(args, run_begin, warp_row, n_rows, kv_head, lane);
  // First and last position of the warp's rows; -1 where it has none.
  const int64_t warp_last_row = min(warp_row + kRowsPerWarp, n_rows) - 1;
  const bool has_rows = warp_row < n_rows;
  const int32_t first_position =
      has_rows ? args.positions[run_begin + warp_row / args.n_group] : -1;
  const int32_t last_position =
      has_rows ? args.positions[run_begin + warp_last_row / args.n_group] : -1;

  const CudaKv& kv = args.kv;
  const int64_t table_row = int64_t{args.sequences[run_begin]} * kv.pages_per_sequence;
  const KvHead head = {kv.pages + kv.layer_offset + kv_head * kv.head_bytes,
                       kv.block_tables + table_row, kv.page_bytes, kv.head_dim, kv_end};
  // V follows all heads of K.
  const int64_t v_offset = kv.n_kv_heads * kv.head_bytes;
  // Step 2i is the keys of tile i, step 2i + 1 its values, in the same pages; pages are looked up a
  // tile ahead of their copies.
  const int n_steps = (end - begin + kPositions - 1) / kPositions * 2;
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
      Tiles::copy(keys_or_values, page, first, kv_ring + copy_slot * kSlotBytes<kDim, kInt8>);
    }
    float_copy::commit();
    ++copy_step;
    copy_slot = copy_slot + 1 == kRing ? 0 : copy_slot + 1;
  };
#pragma unroll
  for (int i = 0; i < kRing - 1; ++i)
    copy();

  uint32_t q[kDim / 16][4];
  load_q<kDim, kInt8>(args, rows, lane, q);
  auto* parked = reinterpret_cast<float4*>(kv_ring + kRingBytes<kDim, kInt8> +
                                           warp * kParkedBytes<kDim, kTogether>);
  // Behind the parked sums, or where they would be.
  auto* exchange = reinterpret_cast<Exchange<kDim>*>(kv_ring + args.exchange_offset);
  const int first_column = P::first_column(warp);
  const bool has_columns = P::has_columns(warp);
  float sum_m[2] = {};
  float sum_l[2] = {};
  State<P::kColumns> state;
  state.reset();

  // The next step's tile: waits for it, starts the copy that takes the place of the last one.
  int slot = 0;
  const auto next_tile = [&](auto are_keys) -> const uint8_t* {
    float_copy::wait_group<kRing - 2>();
    __syncthreads();
    copy();
    const uint8_t* arrived = kv_ring + slot * kSlotBytes<kDim, kInt8>;
    slot = slot + 1 == kRing ? 0 : slot + 1;
    if constexpr (!kInt8) {
      return arrived;
    } else {
      uint8_t* converted = kv_ring + kRing * kSlotBytes<kDim, kInt8>;
      Tiles::template convert<are_keys.value>(arrived, converted);
      __syncthreads();
      return converted;
    }
  };

  for (int32_t piece_first = begin; piece_first < end; piece_first += kPieceTokens) {
    const int32_t piece_end = min(piece_first + kPieceTokens, end);
#pragma unroll 1
    for (int32_t first = piece_first; first < piece_end; first += kPositions) {
      // The same for all warps where they share rows.
      const bool wanted = first <= last_position;
      uint32_t p[P::kKeys][2];
      const uint8_t* keys = next_tile(std::true_type());
      if (wanted) {
        float s[P::kKeys][4];
        float largest[2];
        const int first_key = P::first_key(warp) * 8;
        multiply_keys<kDim>(q, keys, first_key, lane, s);
        if (first + kPositions - 1 > first_position) mask(rows, first + first_key, lane, s);
        if constexpr (kTogether) {
          find_largest<kDim, true>(s, state.m, warp, lane, exchange, largest);
        } else {
          find_largest<kDim, false>(s, state.m, warp, lane, nullptr, largest);
        }
        soften(s, largest, args.scale_log2, state, p);
        if constexpr (kTogether) {
          // Half an operand per 8 positions.
#pragma unroll
          for (int n = 0; n < P::kKeys; ++n) {
            const int key = P::first_key(warp) + n;
            reinterpret_cast<uint2*>(&exchange->p[key / 2][lane])[key % 2] =
                make_uint2(p[n][0], p[n][1]);
          }
        }
      }
      // Its barrier also shows all of p to all warps.
      const uint8_t* values = next_tile(std::false_type());
      if (wanted && has_columns) {
#pragma unroll
        for (int i = 0; i < kPositions / 16; ++i) {
          uint32_t a[4];
          if constexpr (kTogether) {
            const uint4 both = exchange->p[i][lane];
            a[0] = both.x, a[1] = both.y, a[2] = both.z, a[3] = both.w;
          } else {
            a[0] = p[2 * i][0], a[1] = p[2 * i][1];
            a[2] = p[2 * i + 1][0], a[3] = p[2 * i + 1][1];
          }
          multiply_values<kDim>(a, values, i, first_column, lane, state);
        }
      }
    }
    // A warp that is past its last position keeps what it has.
    if (!split && piece_first <= last_position) {
      if (piece_first > 0)
        add_to_sum(rows, piece_first, args.scale_log2, parked, sum_m, sum_l, state, lane);
      if (piece_end <= last_position) {
        park(state, parked, sum_m, sum_l, lane);
        state.reset();
      }
    }
  }
  if (!has_columns) return;
  if (split) store_piece<false>(args, rows, state, piece, first_column, lane);
  if (piece == 0) {
    store_rows<false>(args, rows, state, first_column, lane,
                      split ? kPieceTokens - 1 : last_position);
  }
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Fills in what lies where in dynamic shared memory and returns its size. parks: sums of finished
// pieces wait there.
template <int kDim, bool kInt8, bool kTogether>
size_t arrange_shared(bool parks, Args* args) {
  args->exchange_offset =
      kRingBytes<kDim, kInt8> + (parks ? kKvWarps * kParkedBytes<kDim, kTogether> : 0);
  return static_cast<size_t>(args->exchange_offset) + (kTogether ? sizeof(Exchange<kDim>) : 0);
}

template <int kDim, bool kInt8, bool kTogether>
cudaError_t launch_rows(const CudaLaunch& where, const CudaBatch& batch, Args args,
                        size_t shared_bytes) {
  constexpr int kCtaRows = kTogether ? kRowsPerWarp : kRowsPerWarp * kKvWarps;
  args.tiles_per_run =
      static_cast<int32_t>(ceil_div(int64_t{batch.longest_run} * args.n_group, kCtaRows));
  const int64_t ctas = int64_t{args.tiles_per_run} * args.n_runs * args.n_pieces;
  if (ctas > INT32_MAX) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(ctas), static_cast<unsigned>(args.kv.n_kv_heads));
  return launch_overlapping(where, attend<kDim, kInt8, kTogether>, grid, dim3(kKvWarps * 32),
                            shared_bytes, args);
}

template <int kDim, bool kInt8>
cudaError_t launch_dim(const CudaLaunch& where, const CudaBatch& batch, Args args) {
  const bool parks = args.n_pieces == 1 && batch.most_positions > kPieceTokens;
  // 16 rows x 256 columns of o beside q do not fit the registers of one warp.
  if constexpr (kDim < 256) {
    const bool many = int64_t{batch.longest_run} * args.n_group > kRowsPerWarp;
    const size_t bytes = arrange_shared<kDim, kInt8, false>(parks, &args);
    if (many && static_cast<int64_t>(bytes) <= shared_bytes_per_cta(where.sm))
      return launch_rows<kDim, kInt8, false>(where, batch, args, bytes);
  }
  const size_t bytes = arrange_shared<kDim, kInt8, true>(parks, &args);
  return launch_rows<kDim, kInt8, true>(where, batch, args, bytes);
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

// Whether single tokens get a launch of their own: beside prompts most of their CTAs would have no
// rows, where they fill the processors alone.
bool goes_apart(const CudaLaunch& where, const CudaBatch& batch, int32_t n_kv_heads) {
  return batch.n_tokens > kMostSplitTokens && batch.n_first_singles < batch.n_runs &&
         int64_t{batch.n_first_singles} * n_kv_heads >= where.n_sms;
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
  args.q = q.data;
  args.out = out.data;
  args.q_stride = q.stride;
  args.out_stride = out.stride;
  args.n_heads = n_heads;
  args.n_group = n_heads / kv.n_kv_heads;
  args.n_pieces = split ? n_pieces : 1;
  args.scale_log2 = static_cast<float>(scale_log2);
  if (split) {
    auto* o = reinterpret_cast<float*>(scratch);
    args.scratch = {o, o + int64_t{batch.n_tokens} * n_heads * n_pieces * kv.head_dim, n_pieces};
  }
  const auto attend_runs = [&](const CudaBatch& runs) {
    args.run_begins = runs.run_begins;
    args.n_runs = runs.n_runs;
    args.single_tokens = runs.longest_run == 1;
    return launch_attend(where, runs, args);
  };
  CudaBatch others = batch;
  cudaError_t error = cudaSuccess;
  if (goes_apart(where, batch, kv.n_kv_heads)) {
    CudaBatch singles = batch;
    singles.n_runs = batch.n_first_singles;
    singles.longest_run = 1;
    error = attend_runs(singles);
    others.run_begins += batch.n_first_singles;
    others.n_runs -= batch.n_first_singles;
  }
  if (error == cudaSuccess) error = attend_runs(others);
  if (error != cudaSuccess || !split) return error;
  return launch_overlapping(
      where, attention_combine,
      dim3(static_cast<unsigned>(batch.n_tokens), static_cast<unsigned>(n_heads)),
      dim3(kCombineThreads), 0, args.scratch, batch.positions, out.data, out.stride, kv.head_dim,
      args.scale_log2);
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
