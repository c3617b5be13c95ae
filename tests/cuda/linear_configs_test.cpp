// What the tuner times: pure functions, no GPU.
#include "kernels/cuda/linear_configs.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

using namespace flexq;

namespace {

bool lists(const std::vector<LinearConfig>& configs, const LinearConfig& wanted) {
  return std::any_of(configs.begin(), configs.end(),
                     [&](const LinearConfig& config) { return is_same_config(config, wanted); });
}

}  // namespace

TEST_CASE("linear_configs: each once, all within the GPU's limits, the chosen one among them") {
  for (const int32_t sm : {75, 80, 86, 90, 120}) {
    for (const CudaFamily family : {CudaFamily::kInt8, CudaFamily::kBinary}) {
      for (const int32_t bits : {6, 8}) {
        for (const int64_t n_cols : {128, 4096, 28672, 100000}) {
          for (const int64_t n_tokens : {1, 4, 9, 16, 17, 64, 4096}) {
            const LinearProblem problem = {.sm = sm,
                                           .n_sms = 132,
                                           .family = family,
                                           .weight_bits = bits,
                                           .n_rows = 4096,
                                           .n_cols = n_cols,
                                           .n_tokens = n_tokens};
            INFO("sm " << sm << " bits " << bits << " K " << n_cols << " M " << n_tokens);
            const std::vector<LinearConfig> configs = linear_configs(problem);
            CHECK(lists(configs, select_linear(problem)));
            std::set<std::string> names;
            for (const LinearConfig& config : configs) {
              CHECK(names.insert(config_name(config)).second);
              CHECK((config.kernel == LinearKernel::kBinary) == (family == CudaFamily::kBinary));
              if (config.kernel == LinearKernel::kInt8Decode) {
                CHECK(n_tokens <= kInt8DecodeMaxTokens);
                CHECK(int8_decode_shared_bytes(bits, n_tokens, config.n_stages,
                                               cuda_int8::n_groups(n_cols),
                                               config.resident) <= shared_bytes_per_cta(sm));
              }
              if (sm < 80 && family == CudaFamily::kInt8)
                CHECK(config.kernel == LinearKernel::kInt8Dp4a);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("linear_configs: names") {
  CHECK(config_name({.kernel = LinearKernel::kInt8Decode, .n_stages = 4, .resident = true}) ==
        "decode, 4 stages, resident");
  CHECK(config_name({.kernel = LinearKernel::kInt8Prefill, .tile = Int8Tile::k128x64}) ==
        "prefill 128x64");
  CHECK(config_name({.kernel = LinearKernel::kInt8Wgmma, .wgmma = WgmmaTile::kTile128x128}) ==
        "wgmma tile 128x128");
  CHECK(config_name({.kernel = LinearKernel::kInt8Dp4a}) == "dp4a");
  CHECK_FALSE(is_same_config({.kernel = LinearKernel::kInt8Prefill, .tile = Int8Tile::k128x64},
                             {.kernel = LinearKernel::kInt8Prefill, .tile = Int8Tile::k64x64}));
}
