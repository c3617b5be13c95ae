#include "kernels/cuda/linear_select.h"

#include <limits>

namespace flexq {
namespace {

constexpr int64_t kAnyTokens = std::numeric_limits<int64_t>::max();

// The first row that fits a problem is taken.
struct SelectRow {
  CudaFamily family;
  int32_t min_sm;
  int64_t max_tokens;
  // Prefill: the tile is taken where its CTAs are at least so many quarters of the multiprocessors.
  int64_t min_fill_quarters;
  LinearConfig config;
};

constexpr SelectRow kTable[] = {
    {CudaFamily::kBinary,
     75,
     kAnyTokens,
     0,
     {.kernel = LinearKernel::kBinary,
      .reason = "packed as bit planes: only that kernel reads it"}},
    {CudaFamily::kInt8,
     80,
     16,
     0,
     {.kernel = LinearKernel::kInt8Decode,
      .stages = 4,
      .ctas_per_sm = 1,
      .reason = "reads the weights once; 100 KB in flight per multiprocessor"}},
    {CudaFamily::kInt8,
     80,
     16,
     0,
     {.kernel = LinearKernel::kInt8Decode,
      .stages = 2,
      .ctas_per_sm = 1,
      .reason = "the same where shared memory holds two stages only"}},
    {CudaFamily::kInt8,
     80,
     kInt8DecodeMaxTokens,
     0,
     {.kernel = LinearKernel::kInt8Decode,
      .stages = 4,
      .ctas_per_sm = 1,
      .reason = "still bound by reading the weights"}},
    {CudaFamily::kInt8,
     80,
     kAnyTokens,
     3,
     {.kernel = LinearKernel::kInt8Prefill,
      .tile = Int8Tile::k128x128,
      .reason = "fewest bytes per product, where its CTAs fill the GPU"}},
    {CudaFamily::kInt8,
     80,
     kAnyTokens,
     3,
     {.kernel = LinearKernel::kInt8Prefill,
      .tile = Int8Tile::k64x64,
      .reason = "four times the CTAs"}},
    {CudaFamily::kInt8,
     80,
     kAnyTokens,
     0,
     {.kernel = LinearKernel::kInt8Prefill,
      .tile = Int8Tile::k32x64,
      .reason = "few rows or few tokens: CTAs before tile size"}},
    {CudaFamily::kInt8,
     0,
     kAnyTokens,
     0,
     {.kernel = LinearKernel::kInt8Dp4a, .reason = "no m16n8k32 before sm_80"}},
};

bool fits(const LinearProblem& problem, const SelectRow& row) {
  if (problem.family != row.family || problem.sm < row.min_sm || problem.n_tokens > row.max_tokens)
    return false;
  const LinearConfig& config = row.config;
  if (config.kernel == LinearKernel::kInt8Decode) {
    return int8_decode_shared_bytes(problem.weight_bits, problem.n_tokens, config.stages,
                                    cuda_int8::n_groups(problem.n_cols)) <=
           shared_bytes_per_cta(problem.sm);
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
