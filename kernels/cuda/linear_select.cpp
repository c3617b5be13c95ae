#include "kernels/cuda/linear_select.h"

#include <limits>

namespace flexq {
namespace {

constexpr int64_t kAny = std::numeric_limits<int64_t>::max();

// The first row that fits a problem is taken.
struct SelectRow {
  CudaFamily family;
  int32_t min_sm;
  int64_t min_tokens;
  int64_t max_tokens;
  // Prefill: the least part of the GPU, in percent, that the waves of the tile's CTAs keep busy.
  int64_t min_fill;
  LinearConfig config;
};

constexpr LinearConfig plain(LinearKernel kernel, const char* reason) {
  return {.kernel = kernel, .reason = reason};
}
constexpr LinearConfig decode(int32_t n_stages, bool resident, const char* reason) {
  return {.kernel = LinearKernel::kInt8Decode,
          .n_stages = n_stages,
          .resident = resident,
          .reason = reason};
}
constexpr LinearConfig prefill(Int8Tile tile, const char* reason) {
  return {.kernel = LinearKernel::kInt8Prefill, .tile = tile, .reason = reason};
}

constexpr CudaFamily kInt8 = CudaFamily::kInt8;
constexpr int64_t kFew = kInt8DecodeMaxTokens;

// Times are of an H200, in microseconds.
constexpr SelectRow kTable[] = {
    {CudaFamily::kBinary, 75, 1, kAny, 0,
     plain(LinearKernel::kBinary, "bit planes: only that kernel reads them")},
    {kInt8, 80, 9, kFew, 60, prefill(Int8Tile::k64x32, "22016x4096, 16 tokens: 24 against 30")},
    {kInt8, 80, 1, kFew, 0, decode(4, true, "bound by reading weights: 100 KB in flight per SM")},
    {kInt8, 80, 1, kFew, 0, decode(3, true, "75 KB in flight: 2% slower")},
    {kInt8, 80, 1, kFew, 0, decode(2, true, "57344x8192, 16 tokens: 116 against 210 streamed")},
    {kInt8, 80, 1, kFew, 0, decode(4, false, "activations too long to stay in shared memory")},
    {kInt8, 80, 1, kFew, 0, decode(2, false, "the same with 100 KB of shared memory")},
    {kInt8, 80, 33, kAny, 80, prefill(Int8Tile::k128x64, "fewest bytes per product: 430-460 TOPS")},
    {kInt8, 80, 33, kAny, 60, prefill(Int8Tile::k64x64, "22016x4096, 64 tokens: 39 against 43-46")},
    {kInt8, 80, 1, kAny, 24, prefill(Int8Tile::k64x32, "12288x4096, 64 tokens: 24 against 29-32")},
    {kInt8, 80, 1, kAny, 0, prefill(Int8Tile::k32x32, "4096x4096, 32 tokens: 12.5 against 14.5")},
    {kInt8, 0, 1, kAny, 0, plain(LinearKernel::kInt8Dp4a, "no m16n8k32 before sm_80")},
};

constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Percent of the GPU that a tile's CTAs keep busy over all their waves.
int64_t fill_percent(const LinearProblem& problem, Int8Tile tile) {
  const int64_t ctas =
      divide_up(problem.n_rows, tile_rows(tile)) * divide_up(problem.n_tokens, tile_tokens(tile));
  const int64_t slots = problem.n_sms * tile_ctas_per_sm(tile);
  return ctas * 100 / (divide_up(ctas, slots) * slots);
}

bool fits(const LinearProblem& problem, const SelectRow& row) {
  if (problem.family != row.family || problem.sm < row.min_sm ||
      problem.n_tokens < row.min_tokens || problem.n_tokens > row.max_tokens)
    return false;
  const LinearConfig& config = row.config;
  if (config.kernel == LinearKernel::kInt8Decode) {
    return int8_decode_shared_bytes(problem.weight_bits, problem.n_tokens, config.n_stages,
                                    cuda_int8::n_groups(problem.n_cols),
                                    config.resident) <= shared_bytes_per_cta(problem.sm);
  }
  if (config.kernel == LinearKernel::kInt8Prefill) {
    return fill_percent(problem, config.tile) >= row.min_fill &&
           int8_prefill_shared_bytes(problem.weight_bits, config.tile) <=
               shared_bytes_per_cta(problem.sm);
  }
  return true;
}

// --- wgmma ---------------------------------------------------------------------------------------

// Few tokens: the first row that fits is taken; gate and up need a tile that does both. Times are
// of an H200 (4.62 TB/s), in microseconds.
struct WalkRow {
  int64_t max_tokens;
  int64_t max_blocks;  // of 16 rows per multiprocessor
  WgmmaTile tile;
  const char* reason;
};
constexpr WalkRow kWalks[] = {
    {16, 4, WgmmaTile::kWalk64x16, "no warpgroup multiplies rows that are not there"},
    {16, 8, WgmmaTile::kWalk128x16, "12288x4096: 12.6 against 13.8 with 192 rows"},
    {16, 12, WgmmaTile::kWalk192x16, "22016x4096: 20.4 against 21.1 with 256 rows"},
    {16, kAny, WgmmaTile::kWalk256x16, "57344x8192: 90 against 94 with 128 rows"},
    {32, 4, WgmmaTile::kWalk64x32, "no warpgroup multiplies rows that are not there"},
    {32, 8, WgmmaTile::kWalk128x32, "12288x4096: 13.2 against 15.9 with 64 rows"},
    {32, 12, WgmmaTile::kWalk192x32, "22016x4096: 21.6 against 23.4 with 256 rows"},
    {32, kAny, WgmmaTile::kWalk256x32, "57344x8192: 94 against 99 with 128 rows"},
    {64, 4, WgmmaTile::kWalk64x64, "8192x28672: 59 against 94 with 128 rows"},
    {64, 8, WgmmaTile::kWalk128x64, "12288x4096: 16.8 against 19.6 with 64 rows"},
    {64, 12, WgmmaTile::kWalk192x64, "22016x4096: 24.6 against 28.4 with 64 rows"},
    {64, kAny, WgmmaTile::kWalk256x64, "57344x8192: 101.5 against 104.1 with 128 rows"},
    {128, 4, WgmmaTile::kWalk64x128, "8192x28672: 89 against 106 in tiles"},
    {128, 8, WgmmaTile::kTile128x128, "12288x4096: 25.7 against 30.0 walking"},
    {128, 12, WgmmaTile::kTile192x128, "22016x4096: 38.6 against 43.8 walking"},
    {128, kAny, WgmmaTile::kWalk64x128, "57344x8192: 178 against 186 in tiles"},
};

// More tokens: the tile whose waves take the least time. Nanoseconds of a group, from times at 1024
// to 4096 tokens on an H200; 128x256 alone stands just behind the pair, so that min_cols decides
// between the two.
struct TileRow {
  WgmmaTile tile;
  int64_t min_cols;
  int64_t group_ns;
  const char* reason;
};
constexpr TileRow kTiles[] = {
    {WgmmaTile::kPair128x256, 8192, 1283, "57344x8192, 2048 tokens: 2281 us against 2335 alone"},
    {WgmmaTile::kTile128x256, 0, 1290, "22016x4096, 2048 tokens: 471 us against 498 in pairs"},
    {WgmmaTile::kTile192x128, 0, 1038, "fuller waves: 12288x4096, 256 tokens, 38 us against 45"},
    {WgmmaTile::kTile128x128, 0, 709, "fuller waves: 57344x8192, 256 tokens, 307 us against 326"},
    {WgmmaTile::kTile128x64, 0, 462, "more CTAs: 4096x4096, 256 tokens, 18 us against 25"},
};

LinearConfig select_wgmma(const LinearProblem& problem) {
  const int64_t blocks = divide_up(problem.n_rows, cuda_int8::kUnitRows);
  const auto can = [&](WgmmaTile tile) { return !problem.gated || wgmma_shape(tile).gates(); };
  for (const WalkRow& row : kWalks) {
    if (problem.n_tokens <= row.max_tokens && divide_up(blocks, problem.n_sms) <= row.max_blocks &&
        can(row.tile))
      return {.kernel = LinearKernel::kInt8Wgmma, .wgmma = row.tile, .reason = row.reason};
  }
  const TileRow* best = nullptr;
  int64_t least = kAny;
  for (const TileRow& row : kTiles) {
    if (problem.n_cols < row.min_cols || !can(row.tile)) continue;
    const WgmmaShape shape = wgmma_shape(row.tile);
    const int64_t row_tiles =
        divide_up(blocks, int64_t{shape.units()} * shape.cluster) * shape.cluster;
    const int64_t n_ctas = row_tiles * divide_up(problem.n_tokens, shape.tokens);
    const int64_t group_ns = divide_up(n_ctas, problem.n_sms) * row.group_ns;
    if (group_ns >= least) continue;
    least = group_ns;
    best = &row;
  }
  return {.kernel = LinearKernel::kInt8Wgmma, .wgmma = best->tile, .reason = best->reason};
}

}  // namespace

CodesOrder codes_order(const LinearProblem& problem) {
  const int64_t blocks = divide_up(problem.n_rows, cuda_int8::kUnitRows);
  const bool many_rows = blocks > kDecodeBlocks * problem.n_sms;
  const int64_t min_tokens = many_rows                     ? kWgmmaMinTokensManyRows
                             : problem.n_cols >= kLongCols ? kWgmmaMinTokensLong
                                                           : kWgmmaMinTokens;
  const bool wgmma =
      problem.sm == 90 && problem.family == CudaFamily::kInt8 && problem.n_tokens >= min_tokens;
  return wgmma ? CodesOrder::kTensor : CodesOrder::kNatural;
}

LinearConfig select_linear(const LinearProblem& problem) {
  if (codes_order(problem) == CodesOrder::kTensor) return select_wgmma(problem);
  for (const SelectRow& row : kTable) {
    if (fits(problem, row)) return row.config;
  }
  return {};
}

}  // namespace flexq
