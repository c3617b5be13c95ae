#include "kernels/cuda/linear_select.h"

#include <limits>

namespace flexq {
namespace {

constexpr int64_t kAny = std::numeric_limits<int64_t>::max();

// The first row that fits a problem is taken.
struct SelectRow {
  CudaFamily family;
  int32_t min_sm;
  int64_t max_tokens;
  // Prefill: the tile is taken where its CTAs are at least so many quarters of the multiprocessors.
  int64_t min_fill_quarters;
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

constexpr SelectRow kTable[] = {
    {CudaFamily::kBinary, 75, kAny, 0,
     plain(LinearKernel::kBinary, "bit planes: only that kernel reads them")},
    {kInt8, 80, kFew, 0, decode(4, true, "bound by reading weights: 100 KB in flight per SM")},
    {kInt8, 80, kFew, 0, decode(3, true, "75 KB in flight are nearly as good")},
    {kInt8, 80, kFew, 0, decode(4, false, "activations too long to stay in shared memory")},
    {kInt8, 80, kFew, 0, decode(2, false, "the same with 100 KB of shared memory")},
    {kInt8, 80, kAny, 3, prefill(Int8Tile::k128x128, "fewest bytes per product, fills the GPU")},
    {kInt8, 80, kAny, 3, prefill(Int8Tile::k64x64, "four times the CTAs")},
    {kInt8, 80, kAny, 0, prefill(Int8Tile::k32x64, "few rows or tokens: CTAs before tile size")},
    {kInt8, 0, kAny, 0, plain(LinearKernel::kInt8Dp4a, "no m16n8k32 before sm_80")},
};

bool fits(const LinearProblem& problem, const SelectRow& row) {
  if (problem.family != row.family || problem.sm < row.min_sm || problem.n_tokens > row.max_tokens)
    return false;
  const LinearConfig& config = row.config;
  if (config.kernel == LinearKernel::kInt8Decode) {
    return int8_decode_shared_bytes(problem.weight_bits, problem.n_tokens, config.n_stages,
                                    cuda_int8::n_groups(problem.n_cols),
                                    config.resident) <= shared_bytes_per_cta(problem.sm);
  }
  if (config.kernel == LinearKernel::kInt8Prefill) {
    const int64_t row_tiles =
        (problem.n_rows + tile_rows(config.tile) - 1) / tile_rows(config.tile);
    const int64_t token_tiles =
        (problem.n_tokens + tile_tokens(config.tile) - 1) / tile_tokens(config.tile);
    return row_tiles * token_tiles * 4 >= row.min_fill_quarters * problem.n_sms &&
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

LinearConfig select_linear(const LinearProblem& problem) {
  for (const SelectRow& row : kTable) {
    if (fits(problem, row)) return row.config;
  }
  return {};
}

}  // namespace flexq
