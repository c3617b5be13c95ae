// The bit-plane layout and the arithmetic of binary tensor cores, emulated on the host: every bit
// has one place, planes are what transpose_planes makes, and counts folded as the kernel folds them
// are plain integer dots. Also the kernel's tiling, for every kind of GPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cuda/btc_tiling.h"
#include "kernels/layout/cuda_btc_layout.h"

using namespace flexq;

namespace {

using Row = std::array<int8_t, 128>;

struct Codes {
  std::mt19937_64 engine{20261120};
  // Uniform in the range of `bits`, or only its two ends.
  Row row(int32_t bits, bool extreme) {
    const int32_t top = 1 << (bits - 1);
    Row codes{};
    for (int8_t& code : codes) {
      const auto draw = static_cast<int32_t>(engine() >> 40);
      const int32_t value = extreme ? (draw % 2 == 0 ? -top : top - 1) : draw % (2 * top) - top;
      code = static_cast<int8_t>(value);
    }
    return codes;
  }
};

std::array<uint32_t, 8> planes_of(const int8_t* codes) {
  uint32_t words[8];
  std::memcpy(words, codes, sizeof(words));
  cuda_btc::transpose_planes(words);
  std::array<uint32_t, 8> planes{};
  std::copy_n(words, 8, planes.begin());
  return planes;
}

// A unit packed bit by bit, as the layout says.
std::vector<uint8_t> packed_unit(const std::array<Row, 16>& rows) {
  std::vector<uint8_t> unit(cuda_btc::kUnitBytes);
  for (int32_t row = 0; row < 16; ++row) {
    for (int32_t col = 0; col < 128; ++col) {
      const cuda_btc::Place place = cuda_btc::place_of(row, col);
      for (int32_t plane = 0; plane < cuda_btc::kWeightPlanes; ++plane) {
        const int32_t byte = cuda_btc::word_byte(place.lane, plane, place.half) + place.bit / 8;
        const int32_t bit = rows[static_cast<size_t>(row)][static_cast<size_t>(col)] >> plane & 1;
        unit[static_cast<size_t>(byte)] |= static_cast<uint8_t>(bit << place.bit % 8);
      }
    }
  }
  return unit;
}

// What lanes 4r .. 4r + 3 of a warp compute of one token for rows r and r + 8: the fragments of
// mma.m16n8k128, Horner's rule over the weight planes, then the columns by their factors.
std::array<int32_t, 2> emulated_dots(const std::vector<uint8_t>& unit, const Row& x, int32_t r) {
  uint32_t x_words[cuda_btc::kWordsPerGroup];
  for (int32_t t = 0; t < 4; ++t) {
    const auto planes = planes_of(x.data() + t * 32);
    for (int32_t plane = 0; plane < 8; ++plane) {
      x_words[cuda_btc::activation_word(plane, t)] = planes[static_cast<size_t>(plane)];
    }
  }
  std::array<int32_t, 2> dots{};
  for (int32_t half = 0; half < 2; ++half) {
    for (int32_t column = 0; column < 8; ++column) {
      int32_t fold = 0;
      for (int32_t plane = cuda_btc::kWeightPlanes - 1; plane >= 0; --plane) {
        int32_t count = 0;
        for (int32_t t = 0; t < 4; ++t) {
          uint32_t word;
          std::memcpy(&word,
                      &unit[static_cast<size_t>(cuda_btc::word_byte(r * 4 + t, plane, half))],
                      sizeof(word));
          count += std::popcount(word & x_words[cuda_btc::activation_word(column, t)]);
        }
        fold = fold * 2 + (plane == cuda_btc::kWeightPlanes - 1 ? -count : count);
      }
      dots[static_cast<size_t>(half)] +=
          fold * cuda_btc::plane_factor(column, cuda_btc::kActivationPlanes);
    }
  }
  return dots;
}

}  // namespace

TEST_CASE("btc layout: every bit of every weight has its own place, which fills the unit") {
  std::vector<int> taken(cuda_btc::kUnitBytes * 8, 0);
  for (int32_t row = 0; row < 16; ++row) {
    for (int32_t col = 0; col < 128; ++col) {
      const cuda_btc::Place place = cuda_btc::place_of(row, col);
      REQUIRE(place.lane / 4 + place.half * 8 == row);
      REQUIRE(place.lane % 4 == col / 32);
      for (int32_t plane = 0; plane < cuda_btc::kWeightPlanes; ++plane) {
        const int32_t byte = cuda_btc::word_byte(place.lane, plane, place.half);
        REQUIRE(byte % 4 == 0);
        REQUIRE(byte % 16 == (plane * 2 + place.half) % 4 * 4);
        ++taken[static_cast<size_t>(byte * 8 + place.bit)];
      }
    }
  }
  for (const int times : taken)
    REQUIRE(times == 1);
}

TEST_CASE("btc layout: sizes") {
  CHECK(cuda_btc::codes_bytes(16, 128) == 1536);
  CHECK(cuda_btc::codes_bytes(17, 129) == 4 * 1536);
  CHECK(cuda_btc::scales_bytes(17, 129) == 4 * 32);
  CHECK(cuda_btc::codes_bytes(57344, 8192) == int64_t{57344} * 8192 * 6 / 8);
}

TEST_CASE("btc layout: transpose_planes puts bit p of column j at bit column_bit(j) of word p") {
  Codes random;
  for (int round = 0; round < 1000; ++round) {
    const Row codes = random.row(8, false);
    const auto planes = planes_of(codes.data());
    for (int32_t column = 0; column < 32; ++column) {
      for (int32_t plane = 0; plane < 8; ++plane) {
        REQUIRE((planes[static_cast<size_t>(plane)] >> cuda_btc::column_bit(column) & 1u) ==
                (static_cast<uint32_t>(codes[static_cast<size_t>(column)]) >> plane & 1u));
      }
    }
  }
}

TEST_CASE("btc layout: population counts of planes fold to the integer dot") {
  Codes random;
  for (int round = 0; round < 400; ++round) {
    const bool extreme = round % 4 == 0;
    const int32_t bits = round % 2 == 0 ? 6 : 8;
    std::array<Row, 16> rows;
    for (Row& row : rows)
      row = random.row(6, extreme);
    const Row x = random.row(bits, extreme);
    const std::vector<uint8_t> unit = packed_unit(rows);
    for (int32_t r = 0; r < 8; ++r) {
      const auto dots = emulated_dots(unit, x, r);
      for (int32_t half = 0; half < 2; ++half) {
        const Row& w = rows[static_cast<size_t>(r + half * 8)];
        int32_t expected = 0;
        for (size_t k = 0; k < 128; ++k)
          expected += int32_t{w[k]} * x[k];
        INFO("round ", round, " row ", r + half * 8, " activation bits ", bits);
        REQUIRE(dots[static_cast<size_t>(half)] == expected);
      }
    }
  }
}

TEST_CASE("btc layout: and-counts from xor-counts") {
  std::mt19937 engine(7);
  for (int round = 0; round < 1000; ++round) {
    const auto a = static_cast<uint32_t>(engine());
    const auto b = static_cast<uint32_t>(engine());
    REQUIRE((std::popcount(a) + std::popcount(b) - std::popcount(a ^ b)) / 2 ==
            std::popcount(a & b));
  }
}

TEST_CASE("btc tiling: fits the shared memory of every GPU, for any tokens and groups") {
  for (const int32_t sm : {75, 80, 86, 87, 89, 90, 100, 120}) {
    for (const int64_t n_tokens : {1, 2, 3, 4, 5, 8, 9, 4096}) {
      for (int64_t n_groups = 1; n_groups < 3000; n_groups += n_groups < 300 ? 1 : 97) {
        const btc::Tiling tiling = btc::choose_tiling(sm, n_tokens, n_groups);
        INFO("sm ", sm, " tokens ", n_tokens, " groups ", n_groups);
        REQUIRE(btc::shared_map(tiling).bytes <= btc::shared_limit(sm, tiling.ctas_per_sm));
        REQUIRE(std::has_single_bit(static_cast<uint32_t>(tiling.tokens)));
        REQUIRE(tiling.tokens <= btc::kMaxTokens);
        REQUIRE(tiling.tokens < 2 * n_tokens);
        REQUIRE(tiling.chunk_groups >= 1);
        REQUIRE(tiling.chunk_groups <= btc::most_chunk_groups(tiling.tokens));
        const bool all = tiling.plane_groups == n_groups;
        REQUIRE((all || tiling.plane_groups == tiling.chunk_groups));
        const btc::SharedMap map = btc::shared_map(tiling);
        for (const int32_t offset : {map.scales, map.planes, map.terms})
          REQUIRE(offset % 16 == 0);
        REQUIRE(map.barriers % 8 == 0);
        REQUIRE(map.x_scales % 4 == 0);
      }
    }
  }
  // The shapes of LLaMA at one token keep all planes on the GPUs of data centres.
  for (const int64_t n_groups : {32, 64, 86, 224}) {
    CHECK(btc::choose_tiling(90, 1, n_groups).plane_groups == n_groups);
    CHECK(btc::choose_tiling(80, 1, n_groups).plane_groups == n_groups);
  }
}
