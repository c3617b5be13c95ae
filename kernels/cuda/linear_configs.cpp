#include "kernels/cuda/linear_configs.h"

namespace flexq {
namespace {

constexpr int32_t kMostStages = 8;  // deeper rings than these have never gained anything
constexpr int64_t kDp4aMaxTokens = 4;
constexpr int32_t kMmaMinSm = 80;  // m16n8k32

void add_decode(const LinearProblem& problem, std::vector<LinearConfig>& configs) {
  if (problem.n_tokens > kInt8DecodeMaxTokens) return;
  const int64_t groups = cuda_int8::n_groups(problem.n_cols);
  for (const bool resident : {true, false}) {
    for (int32_t n_stages = 2; n_stages <= kMostStages; ++n_stages) {
      if (int8_decode_shared_bytes(problem.weight_bits, problem.n_tokens, n_stages, groups,
                                   resident) > shared_bytes_per_cta(problem.sm))
        break;
      configs.push_back(
          {.kernel = LinearKernel::kInt8Decode, .n_stages = n_stages, .resident = resident});
    }
  }
}

void add_prefill(const LinearProblem& problem, std::vector<LinearConfig>& configs) {
  for (const Int8Tile tile :
       {Int8Tile::k32x32, Int8Tile::k64x32, Int8Tile::k64x64, Int8Tile::k128x64}) {
    if (int8_prefill_shared_bytes(problem.weight_bits, tile) <= shared_bytes_per_cta(problem.sm))
      configs.push_back({.kernel = LinearKernel::kInt8Prefill, .tile = tile});
  }
}

void add_wgmma(const LinearProblem& problem, std::vector<LinearConfig>& configs) {
  for (const WgmmaTile tile : kWgmmaTiles) {
    const WgmmaShape shape = wgmma_shape(tile);
    // Who walks a stretch of all rows meets one tile of tokens.
    const bool fits = !shape.stretches || problem.n_tokens <= shape.tokens;
    if (fits && (shape.gates() || !problem.gated))
      configs.push_back({.kernel = LinearKernel::kInt8Wgmma, .wgmma = tile});
  }
}

}  // namespace

std::vector<LinearConfig> linear_configs(const LinearProblem& problem) {
  if (problem.family == CudaFamily::kBinary) return {{.kernel = LinearKernel::kBinary}};
  std::vector<LinearConfig> configs;
  if (codes_order(problem) == CodesOrder::kTensor) {
    add_wgmma(problem, configs);
    return configs;
  }
  if (problem.sm >= kMmaMinSm) {
    add_decode(problem, configs);
    add_prefill(problem, configs);
  }
  if (problem.n_tokens <= kDp4aMaxTokens || configs.empty())
    configs.push_back({.kernel = LinearKernel::kInt8Dp4a});
  return configs;
}

std::string config_name(const LinearConfig& config) {
  switch (config.kernel) {
    case LinearKernel::kBinary:
      return "binary";
    case LinearKernel::kInt8Dp4a:
      return "dp4a";
    case LinearKernel::kInt8Decode:
      return "decode, " + std::to_string(config.n_stages) + " stages, " +
             (config.resident ? "resident" : "streamed");
    case LinearKernel::kInt8Prefill:
      return "prefill " + std::to_string(tile_rows(config.tile)) + "x" +
             std::to_string(tile_tokens(config.tile));
    case LinearKernel::kInt8Wgmma: {
      const WgmmaShape shape = wgmma_shape(config.wgmma);
      return std::string("wgmma ") +
             (shape.stretches      ? "walk "
              : shape.cluster == 2 ? "pair "
                                   : "tile ") +
             std::to_string(shape.warpgroups * 64) + "x" + std::to_string(shape.tokens);
    }
  }
  return "";
}

bool is_same_config(const LinearConfig& a, const LinearConfig& b) {
  return config_name(a) == config_name(b);
}

}  // namespace flexq
