// When fused decode kernels serve, and that two links of a chain fit one multiprocessor.
#include <doctest/doctest.h>

#include <algorithm>
#include <initializer_list>

#include "kernels/cuda/attention_decode_shape.h"
#include "kernels/cuda/fused_linear_shape.h"

namespace flexq {

TEST_CASE("fused linears serve few tokens of the INT8 family on sm_90 where the activations fit") {
  const FusedProblem decode = {90, CudaFamily::kInt8, 6, 4096, 1};
  CHECK(fuses_linear(decode));
  CHECK(fuses_quantization(decode, true));
  for (const int32_t sm : {75, 80, 89, 120}) {
    FusedProblem problem = decode;
    problem.sm = sm;
    CHECK_FALSE(fuses_linear(problem));
  }
  FusedProblem binary = decode;
  binary.family = CudaFamily::kBinary;
  CHECK_FALSE(fuses_linear(binary));
  FusedProblem several = decode;
  several.n_tokens = 2;
  CHECK(can_fuse_linear(several));
  CHECK_FALSE(fuses_linear(several));  // wgmma serves
  several.sm = 100;
  several.n_tokens = kFusedMaxTokens;
  CHECK(fuses_linear(several));
  CHECK_FALSE(fuses_quantization(several, true));
  several.n_tokens = kFusedMaxTokens + 1;
  CHECK_FALSE(fuses_linear(several));
  FusedProblem wide = decode;
  wide.n_cols = 8193;
  CHECK_FALSE(fuses_quantization(wide, true));
  CHECK(fuses_quantization(wide, false));
  wide.n_cols = 1 << 20;
  CHECK_FALSE(fuses_linear(wide));
}

TEST_CASE("shares of fused linears hold any number of groups") {
  for (const int32_t bits : {6, 8}) {
    for (const int32_t tile : {1, 8}) {
      const int32_t most = fused_round_groups(bits, tile);
      for (int32_t n_groups = 1; n_groups <= 300; ++n_groups) {
        const int32_t n_rounds = (n_groups + most - 1) / most;
        int32_t begin = 0;
        for (int32_t round = 0; round < n_rounds; ++round) {
          const int32_t end = n_groups * (round + 1) / n_rounds;
          CHECK(end - begin <= most);
          for (int32_t warp = 0; warp < kFusedWarps; ++warp) {
            const int32_t n =
                (end - begin) * (warp + 1) / kFusedWarps - (end - begin) * warp / kFusedWarps;
            REQUIRE(n <= fused_piece_groups(bits, tile));
          }
          begin = end;
        }
        REQUIRE(begin == n_groups);
      }
    }
  }
}

// 228 KiB of a multiprocessor of sm_90, 1 KiB of which every CTA takes for itself.
constexpr int64_t kReservedBytes = 1024;
constexpr int64_t kMultiprocessorBytes = 228 * 1024;

constexpr bool fit_together(int64_t one_cta, int64_t other_cta) {
  return one_cta + other_cta + 2 * kReservedBytes <= kMultiprocessorBytes;
}

TEST_CASE("CTAs of neighbouring fused linears share a multiprocessor at one token") {
  const auto fit = [](int32_t bits, int64_t n_cols, int64_t next_cols) {
    const auto bytes = [&](int64_t n, CudaStore store) {
      return fused_launch_bytes(bits, 1, cuda_int8::n_groups(n), store);
    };
    // One of two neighbours adds to the residual stream, and is alone of its kind.
    return fit_together(bytes(n_cols, CudaStore::kSet), bytes(next_cols, CudaStore::kAdd)) &&
           !fit_together(bytes(next_cols, CudaStore::kAdd), bytes(next_cols, CudaStore::kAdd));
  };
  for (const int32_t bits : {6, 8}) {
    CHECK(fit(bits, 4096, 4096));
    CHECK(fit(bits, 4096, 11008));
  }
  CHECK(fit(6, 8192, 8192));
}

TEST_CASE("two CTAs share pairs where the longest stretch becomes shorter") {
  CHECK(fused_pair_cluster(688, 132) == 2);   // LLaMA-2-7B: 11 blocks, not 12
  CHECK(fused_pair_cluster(896, 132) == 1);   // LLaMA-3-8B: 14 either way
  CHECK(fused_pair_cluster(1792, 132) == 1);  // LLaMA-2-70B: 28
  CHECK(fused_pair_cluster(688, 131) == 1);
  CHECK(fused_pair_cluster(1, 1) == 1);
  CHECK(fused_pair_cluster(2, 2) == 1);
  CHECK(fused_pair_cluster(3, 2) == 2);
  for (int32_t n_pairs = 1; n_pairs <= 300; ++n_pairs) {
    for (int32_t grid = 2; grid <= n_pairs; grid += 2) {
      int32_t alone = 0;
      int32_t shared = 0;
      for (int32_t i = 0; i < grid; ++i)
        alone = std::max(alone, (n_pairs * (i + 1) / grid - n_pairs * i / grid) * 2);
      for (int32_t i = 0; i < grid / 2; ++i)
        shared = std::max(shared, n_pairs * (i + 1) / (grid / 2) - n_pairs * i / (grid / 2));
      REQUIRE(fused_pair_cluster(n_pairs, grid) == (shared < alone ? 2 : 1));
    }
  }
}

TEST_CASE("the next kernel starts when about 200 KB of weights are left to a CTA") {
  CHECK(fused_last_rounds(6, 32, 5, CudaStore::kSet) == 4);  // 50,176 bytes of 32 groups
  CHECK(fused_last_rounds(6, 32, 12, CudaStore::kSiluMul) == 3);
  CHECK(fused_last_rounds(6, 29, 3, CudaStore::kAdd) == 4);
  CHECK(fused_last_rounds(6, 32, 21, CudaStore::kAdd) == 5);
  CHECK(fused_last_rounds(8, 16, 10, CudaStore::kSet) == 6);
  CHECK(fused_last_rounds(6, 32, 54, CudaStore::kSiluMul) == 53);  // 57344 x 8192: 2.7 MB
  for (const int32_t bits : {6, 8}) {
    for (int32_t groups = 1; groups <= fused_round_groups(bits, 1); ++groups) {
      const int64_t bytes = groups * (cuda_int8::unit_bytes(bits) + cuda_int8::kUnitRows * 2);
      for (const CudaStore store : {CudaStore::kSet, CudaStore::kAdd, CudaStore::kSiluMul}) {
        const int64_t most = store == CudaStore::kSiluMul ? 195000 : 205000;
        const int32_t rounds = fused_last_rounds(bits, groups, 1, store);
        REQUIRE(rounds >= 1);
        CHECK(rounds * bytes <= most);
        CHECK((rounds + 1) * bytes > most);
      }
    }
  }
}

TEST_CASE("decode attention has clusters where every CTA has a multiprocessor of its own") {
  constexpr int64_t kBytes = 100000;
  for (const int32_t n_pieces : {1, 2, 3, 4}) {
    const AttentionPlacement placement = place_attention(32 * n_pieces, n_pieces, 132, kBytes);
    CHECK(placement.n_cluster == n_pieces);
    CHECK(!fit_together(placement.shared_bytes, placement.shared_bytes));
  }
  CHECK(place_attention(8 * 16, 16, 132, kBytes).n_cluster == 1);
  CHECK(place_attention(133, 1, 132, kBytes).shared_bytes == kBytes);
  CHECK(place_attention(32 * 4 * 2, 4, 132, kBytes).n_cluster == 1);
  CHECK(place_attention(32, 1, 132, 200000).shared_bytes == 200000);
}

TEST_CASE("a CTA attends to all of a token's positions where sequences and heads fill the device") {
  CHECK(attends_whole(64 * 32, 1, 132));
  CHECK(attends_whole(265, 8, 132));
  CHECK_FALSE(attends_whole(264, 8, 132));
  CHECK_FALSE(attends_whole(64 * 32, 9, 132));
  CHECK_FALSE(attends_whole(32, 1, 132));
}

TEST_CASE("decode attention in one launch: few query heads of a KV head, few tokens, sm_90") {
  CHECK(fuses_attention(90, 1, 32, 32, 128));
  CHECK(fuses_attention(90, 64, 64, 8, 128));
  CHECK(fuses_attention(90, 8, 32, 2, 64));
  CHECK_FALSE(fuses_attention(80, 1, 32, 32, 128));
  CHECK_FALSE(fuses_attention(90, 65, 32, 32, 128));
  CHECK_FALSE(fuses_attention(90, 1, 34, 2, 128));
  CHECK_FALSE(fuses_attention(90, 1, 32, 32, 257));
}

}  // namespace flexq
