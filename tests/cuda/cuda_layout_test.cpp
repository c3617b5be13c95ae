// The packed layout of the INT8 kernels and the choice of kernels: pure functions, no GPU.
#include <doctest/doctest.h>

#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cuda/linear_select.h"
#include "kernels/layout/cuda_int8_layout.h"

using namespace flexq;

TEST_CASE("cuda_int8_layout: sizes") {
  CHECK(cuda_int8::codes_bytes(16, 128, 6) == 1536);
  CHECK(cuda_int8::codes_bytes(17, 129, 6) == 4 * 1536);
  CHECK(cuda_int8::codes_bytes(17, 129, 8) == 4 * 2048);
  CHECK(cuda_int8::scales_bytes(17, 129) == 4 * 32);
  CHECK(cuda_int8::codes_bytes(57344, 8192, 6) == int64_t{57344} * 8192 * 6 / 8);
}

TEST_CASE("cuda_int8_layout: every weight of a unit has its own bits and all bits are used") {
  std::vector<int> bits6(cuda_int8::kUnitBytes6 * 8, 0);
  std::vector<int> bytes8(cuda_int8::kUnitBytes8, 0);
  std::set<std::tuple<int, int, int, int>> places;
  for (int32_t row = 0; row < 16; ++row) {
    for (int32_t col = 0; col < 128; ++col) {
      const cuda_int8::Place p = cuda_int8::place_of(row, col);
      REQUIRE((p.lane >= 0 && p.lane < 32 && p.step >= 0 && p.step < 4));
      REQUIRE((p.reg >= 0 && p.reg < 4 && p.byte >= 0 && p.byte < 4));
      places.insert({p.lane, p.step, p.reg, p.byte});
      for (int32_t pair = 0; pair < 3; ++pair) {
        const cuda_int8::BitPlace at = cuda_int8::pair_place(p, pair);
        ++bits6.at(static_cast<size_t>(at.byte * 8 + at.bit));
        ++bits6.at(static_cast<size_t>(at.byte * 8 + at.bit + 1));
      }
      ++bytes8.at(static_cast<size_t>(cuda_int8::code_byte(p)));
    }
  }
  CHECK(places.size() == 16 * 128);
  for (const int uses : bits6)
    REQUIRE(uses == 1);
  for (const int uses : bytes8)
    REQUIRE(uses == 1);
}

TEST_CASE("cuda_int8_layout: steps are packed where pair_place() says, and unpacked again") {
  std::mt19937 random(6);
  for (int round = 0; round < 100; ++round) {
    uint32_t codes[4];
    for (uint32_t& word : codes)
      word = static_cast<uint32_t>(random());  // bits 6 and 7 of a byte do not count
    uint32_t words[3];
    cuda_int8::pack_step(codes, words);
    uint32_t a[4];
    cuda_int8::unpack_step(words[0], words[1], words[2], a);
    for (int32_t reg = 0; reg < 4; ++reg) {
      for (int32_t byte = 0; byte < 4; ++byte) {
        const uint32_t code = codes[reg] >> 8 * byte & 63;
        CHECK((a[reg] >> 8 * byte & 255) == code << 2);
        // Lane 5, step 1: words 2 and 3 of load 0 and word 1 of load 2.
        const cuda_int8::Place place = {5, 1, reg, byte};
        const int32_t first_bytes[3] = {5 * 16 + 8, 5 * 16 + 12, (2 * 32 + 5) * 16 + 4};
        for (int32_t pair = 0; pair < 3; ++pair) {
          const cuda_int8::BitPlace at = cuda_int8::pair_place(place, pair);
          uint32_t found = 0;
          for (int word = 0; word < 3; ++word) {
            const int32_t in_word = at.byte - first_bytes[word];
            if (in_word >= 0 && in_word < 4) found = words[word] >> (8 * in_word + at.bit) & 3;
          }
          CHECK(found == (code >> 2 * pair & 3));
        }
      }
    }
  }
}

// mma.m16n8k32: lane l holds of A, register r, byte b: row l / 4 + (r % 2) * 8 and
// k = (r / 2) * 16 + l % 4 * 4 + b; of B, register r: column l / 4 and k = r * 16 + l % 4 * 4 + b.
// A lane gives register r of B in step j the activations t * 32 + 8j + 4r .. + 3 of token g.
TEST_CASE("cuda_int8_layout: both operands agree on the column behind every k") {
  for (int32_t row = 0; row < 16; ++row) {
    for (int32_t col = 0; col < 128; ++col) {
      const cuda_int8::Place p = cuda_int8::place_of(row, col);
      CHECK(p.lane / 4 + p.reg % 2 * 8 == row);
      const int32_t k = p.reg / 2 * 16 + p.lane % 4 * 4 + p.byte;
      const int32_t b_reg = k / 16;
      const int32_t b_lane = k % 16 / 4;
      CHECK(b_lane * 32 + p.step * 8 + b_reg * 4 + k % 4 == col);
    }
  }
}

// wgmma step j reads codes 32j .. 32j + 31 of a token from memory: k = 16h + 4t + b of them meets
// register a(2h) and a(2h + 1) of lane t.
TEST_CASE("cuda_int8_layout: tensor order agrees with the A registers of every step") {
  std::set<int32_t> words;
  for (int32_t col = 0; col < 128; ++col) {
    const int32_t place = cuda_int8::tensor_word(col / 4) * 4 + col % 4;
    words.insert(cuda_int8::tensor_word(col / 4));
    const cuda_int8::Place p = cuda_int8::place_of(3, col);
    const int32_t k = place % 32;
    CHECK(place / 32 == p.step);
    CHECK(k / 16 == p.reg / 2);
    CHECK(k % 16 / 4 == p.lane % 4);
    CHECK(k % 4 == p.byte);
  }
  CHECK(words.size() == 32);
}

TEST_CASE("linear_select: one slice of K for every shape") {
  for (const int64_t n_rows : {1, 16, 4096, 57344}) {
    for (const int64_t n_cols : {1, 128, 4096, 28672})
      CHECK(k_slices(n_rows, n_cols) == 1);
  }
}

TEST_CASE("linear_select: every problem has a kernel that the GPU can run, for a reason") {
  for (const int32_t sm : {61, 75, 80, 86, 87, 89, 90, 100, 120}) {
    for (const int32_t bits : {6, 8}) {
      for (const int64_t n_rows : {1, 64, 4096, 57344}) {
        for (const int64_t n_cols : {1, 172, 4096, 28672, 1000000}) {
          for (const int64_t n_tokens : {1, 2, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 256, 4096}) {
            const LinearProblem problem = {.sm = sm,
                                           .n_sms = 40,
                                           .family = CudaFamily::kInt8,
                                           .weight_bits = bits,
                                           .n_rows = n_rows,
                                           .n_cols = n_cols,
                                           .n_tokens = n_tokens};
            const LinearConfig config = select_linear(problem);
            INFO("sm " << sm << " bits " << bits << " N " << n_rows << " K " << n_cols << " M "
                       << n_tokens);
            CHECK(std::string(config.reason).size() > 10);
            CHECK((config.kernel == LinearKernel::kInt8Dp4a) == (sm < 80));
            if (config.kernel == LinearKernel::kInt8Decode) {
              CHECK(n_tokens <= kInt8DecodeMaxTokens);
              CHECK(config.n_stages >= 2);
              CHECK(int8_decode_shared_bytes(bits, n_tokens, config.n_stages,
                                             cuda_int8::n_groups(n_cols),
                                             config.resident) <= shared_bytes_per_cta(sm));
            }
            const int64_t min_tokens = n_rows > 40 * 16 * kDecodeBlocks ? kWgmmaMinTokensManyRows
                                       : n_cols >= kLongCols            ? kWgmmaMinTokensLong
                                                                        : kWgmmaMinTokens;
            CHECK((config.kernel == LinearKernel::kInt8Wgmma) ==
                  (sm == 90 && n_tokens >= min_tokens));
            CHECK((codes_order(problem) == CodesOrder::kTensor) ==
                  (config.kernel == LinearKernel::kInt8Wgmma));
            if (config.kernel == LinearKernel::kInt8Wgmma) {
              const WgmmaShape shape = wgmma_shape(config.wgmma);
              CHECK(wgmma_shared_bytes(bits, shape) <= shared_bytes_per_cta(sm));
              if (shape.stretches) CHECK(n_tokens <= shape.tokens);
            }
            if (config.kernel == LinearKernel::kInt8Prefill)
              CHECK(int8_prefill_shared_bytes(bits, config.tile) <= shared_bytes_per_cta(sm));
          }
        }
      }
    }
  }
}

TEST_CASE("linear_select: the wgmma kernel's shapes follow tokens and rows") {
  const auto tile = [](int64_t n_rows, int64_t n_tokens, bool gated = false,
                       int64_t n_cols = 4096) {
    const LinearConfig config = select_linear({.sm = 90,
                                               .n_sms = 132,
                                               .n_rows = n_rows,
                                               .n_cols = n_cols,
                                               .n_tokens = n_tokens,
                                               .gated = gated});
    CHECK(config.kernel == LinearKernel::kInt8Wgmma);
    return config.wgmma;
  };
  CHECK(tile(4096, 9) == WgmmaTile::kWalk64x16);
  CHECK(tile(4096, 17, true) == WgmmaTile::kWalk128x32);
  CHECK(tile(12288, 16) == WgmmaTile::kWalk128x16);
  CHECK(tile(57344, 32) == WgmmaTile::kWalk256x32);
  CHECK(tile(22016, 16) == WgmmaTile::kWalk192x16);
  CHECK(tile(22016, 16, true) == WgmmaTile::kWalk256x16);
  CHECK(tile(57344, 64) == WgmmaTile::kWalk256x64);
  CHECK(tile(4096, 65) == WgmmaTile::kWalk64x128);
  CHECK(tile(12288, 128) == WgmmaTile::kTile128x128);
  CHECK(tile(4096, 129) == WgmmaTile::kTile128x64);
  CHECK(tile(12288, 256) == WgmmaTile::kTile192x128);
  CHECK(tile(12288, 256, true) == WgmmaTile::kTile128x256);
  CHECK(tile(4096, 1024) == WgmmaTile::kTile128x256);
  CHECK(tile(57344, 4096, false, 8192) == WgmmaTile::kPair128x256);
}

TEST_CASE("linear_select: every shape of the wgmma kernel fits a multiprocessor of Hopper") {
  for (const WgmmaTile tile : kWgmmaTiles) {
    for (const int32_t bits : {6, 8}) {
      CHECK(wgmma_shared_bytes(bits, wgmma_shape(tile)) <= shared_bytes_per_cta(90));
      CHECK(wgmma_stages(bits, wgmma_shape(tile)) >= 2);
    }
  }
}

TEST_CASE("linear_select: bit planes go to the binary kernel, one token on an H200 to decode") {
  LinearProblem problem{.sm = 90, .n_sms = 132, .n_rows = 4096, .n_cols = 4096, .n_tokens = 1};
  CHECK(select_linear(problem).kernel == LinearKernel::kInt8Decode);
  problem.n_tokens = 2048;
  CHECK(select_linear(problem).kernel == LinearKernel::kInt8Wgmma);
  CHECK(select_linear(problem).wgmma == WgmmaTile::kTile128x256);
  problem.sm = 80;
  CHECK(select_linear(problem).kernel == LinearKernel::kInt8Prefill);
  CHECK(select_linear(problem).tile == Int8Tile::k128x64);
  problem.family = CudaFamily::kBinary;
  CHECK(select_linear(problem).kernel == LinearKernel::kBinary);
}
