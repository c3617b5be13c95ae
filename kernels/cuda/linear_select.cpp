#include "kernels/cuda/linear_select.h"

#include <limits>

namespace flexq {
namespace {

constexpr int32_t kAnySm = std::numeric_limits<int32_t>::max();
constexpr int64_t kAny = std::numeric_limits<int64_t>::max();

// The first row that fits a problem is taken.
struct SelectRow {
  CudaFamily family;
  int32_t min_sm;
  int32_t max_sm;
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

constexpr LinearConfig wgmma(WgmmaTile tile, const char* reason) {
  return {.kernel = LinearKernel::kInt8Wgmma, .wgmma = tile, .reason = reason};
}

constexpr CudaFamily kInt8 = CudaFamily::kInt8;
constexpr int64_t kFew = kInt8DecodeMaxTokens;

// Times are of an H200, in microseconds.
constexpr SelectRow kTable[] = {
    {CudaFamily::kBinary, 75, kAnySm, 1, kAny, 0,
     plain(LinearKernel::kBinary, "bit planes: only that kernel reads them")},
    {kInt8, 90, 90, kWgmmaMinTokens, 16, 0, wgmma(WgmmaTile::k256x16, "bound by reading weights")},
    {kInt8, 90, 90, 17, 32, 0, wgmma(WgmmaTile::k256x32, "bound by reading weights")},
    {kInt8, 90, 90, 33, 64, 0, wgmma(WgmmaTile::k256x64, "bound by reading weights")},
    {kInt8, 90, 90, 65, 128, 0, wgmma(WgmmaTile::k128x128, "one tile of tokens")},
    {kInt8, 90, 90, 129, kAny, 0, wgmma(WgmmaTile::k128x256, "fewest bytes per product")},
    {kInt8, 80, kAnySm, 9, kFew, 60,
     prefill(Int8Tile::k64x32, "22016x4096, 16 tokens: 24 against 30")},
    {kInt8, 80, kAnySm, 1, kFew, 0,
     decode(4, true, "bound by reading weights: 100 KB in flight per SM")},
    {kInt8, 80, kAnySm, 1, kFew, 0, decode(3, true, "75 KB in flight: 2% slower")},
    {kInt8, 80, kAnySm, 1, kFew, 0,
     decode(2, true, "57344x8192, 16 tokens: 116 against 210 streamed")},
    {kInt8, 80, kAnySm, 1, kFew, 0,
     decode(4, false, "activations too long to stay in shared memory")},
    {kInt8, 80, kAnySm, 1, kFew, 0, decode(2, false, "the same with 100 KB of shared memory")},
    {kInt8, 80, kAnySm, 33, kAny, 80,
     prefill(Int8Tile::k128x64, "fewest bytes per product: 430-460 TOPS")},
    {kInt8, 80, kAnySm, 33, kAny, 60,
     prefill(Int8Tile::k64x64, "22016x4096, 64 tokens: 39 against 43-46")},
    {kInt8, 80, kAnySm, 1, kAny, 24,
     prefill(Int8Tile::k64x32, "12288x4096, 64 tokens: 24 against 29-32")},
    {kInt8, 80, kAnySm, 1, kAny, 0,
     prefill(Int8Tile::k32x32, "4096x4096, 32 tokens: 12.5 against 14.5")},
    {kInt8, 0, kAnySm, 1, kAny, 0, plain(LinearKernel::kInt8Dp4a, "no m16n8k32 before sm_80")},
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
  if (problem.family != row.family || problem.sm < row.min_sm || problem.sm > row.max_sm ||
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

}  // namespace

int64_t shared_bytes_per_cta(int32_t sm) {
  constexpr int64_t kKiB = 1024;
  if (sm < 80) return 64 * kKiB;
  if (sm == 80 || sm == 87) return 163 * kKiB;
  if (sm >= 90 && sm < 120) return 227 * kKiB;
  return 99 * kKiB;
}

CodesOrder codes_order(int32_t sm, CudaFamily family, int64_t n_tokens) {
  const bool wgmma = sm == 90 && family == CudaFamily::kInt8 && n_tokens >= kWgmmaMinTokens;
  return wgmma ? CodesOrder::kTensor : CodesOrder::kNatural;
}

LinearConfig select_linear(const LinearProblem& problem) {
  for (const SelectRow& row : kTable) {
    if (fits(problem, row)) return row.config;
  }
  return {};
}

}  // namespace flexq
