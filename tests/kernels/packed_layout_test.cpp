// The packed layouts: round trips, parallel ranges, and the placement of bits that w6_layout.h and
// w8_layout.h describe.
#include <doctest/doctest.h>

#include <algorithm>

#include "kernels/kernel_test_support.h"

using namespace flexq;
using namespace flexq::test;

TEST_CASE("layouts: sizes") {
  CHECK(w6::codes_bytes(16, 128) == 1536);
  CHECK(w6::codes_bytes(17, 129) == 4 * 1536);
  CHECK(w6::scales_bytes(17, 129) == 4 * 32);
  CHECK(w6::codes_bytes(57344, 8192) == int64_t{57344} * 8192 * 6 / 8);
  CHECK(w8::codes_bytes(16, 128) == 2048);
  CHECK(w8::codes_bytes(17, 129) == 4 * 2048);
  CHECK(w8::scales_bytes(17, 129) == 4 * 32);
}

TEST_CASE_TEMPLATE("layouts: ranges packed in any order unpack to what was packed", Format, W6,
                   W8) {
  Random random(11);
  for (int round = 0; round < 200; ++round) {
    const int64_t n_rows = random.integer(1, 70);
    const int64_t n_cols = random.integer(1, 400);
    const int64_t groups = w6::n_groups(n_cols);
    const auto whole = PackedWeights<Format>::random(random, n_rows, n_cols, 1.0f);
    // A second copy packed block by block from the end.
    std::vector<uint8_t> codes(whole.packed_codes.size(), uint8_t{0x55});
    std::vector<uint16_t> scales(whole.packed_scales.size(), uint16_t{0x5555});
    for (int64_t block = w6::n_blocks(n_rows); block-- > 0;) {
      const int64_t row = block * w6::kUnitRows;
      Format::pack(whole.codes.data() + row * n_cols, whole.scales.data() + row * groups, row,
                   std::min(w6::kUnitRows, n_rows - row), n_rows, n_cols, codes.data(),
                   scales.data());
    }
    REQUIRE(codes == whole.packed_codes);
    REQUIRE(scales == whole.packed_scales);
    const int64_t row = random.integer(0, w6::n_blocks(n_rows) - 1) * w6::kUnitRows;
    const int64_t count = n_rows - row;
    std::vector<int8_t> unpacked(static_cast<size_t>(count * n_cols));
    std::vector<uint16_t> unpacked_scales(static_cast<size_t>(count * groups));
    Format::unpack(codes.data(), scales.data(), row, count, n_rows, n_cols, unpacked.data(),
                   unpacked_scales.data());
    REQUIRE(std::equal(unpacked.begin(), unpacked.end(), whole.codes.begin() + row * n_cols));
    REQUIRE(std::equal(unpacked_scales.begin(), unpacked_scales.end(),
                       whole.scales.begin() + row * groups));
  }
}

TEST_CASE("w6_layout: bits lie where the header says, padding is q = 0 with scale 0") {
  Random random(12);
  const int64_t n_rows = 21;
  const int64_t n_cols = 172;
  const auto w = PackedWeights<W6>::random(random, n_rows, n_cols, 1.0f);
  for (int64_t row = 0; row < 32; ++row) {
    for (int64_t column = 0; column < 256; ++column) {
      const int64_t unit = row / 16 * 2 + column / 128;
      const int64_t quad = column % 128 / 16;
      const int64_t step = column % 16 / 4;
      const uint8_t* byte =
          w.packed_codes.data() + unit * 1536 + quad * 192 + row % 16 * 4 + column % 4;
      const int u = step < 3 ? byte[step * 64] & 63
                             : (byte[0] >> 6) * 16 + (byte[64] >> 6) * 4 + (byte[128] >> 6);
      const bool inside = row < n_rows && column < n_cols;
      const int q = inside ? w.codes[static_cast<size_t>(row * n_cols + column)] : 0;
      REQUIRE(u - 32 == q);
      if (row >= n_rows) REQUIRE(w.packed_scales[static_cast<size_t>(unit * 16 + row % 16)] == 0);
    }
  }
}

TEST_CASE("w8_layout: bytes lie where the header says, padding is q = 0 with scale 0") {
  Random random(13);
  const int64_t n_rows = 21;
  const int64_t n_cols = 174;
  const auto w = PackedWeights<W8>::random(random, n_rows, n_cols, 1.0f);
  for (int64_t row = 0; row < 32; ++row) {
    for (int64_t column = 0; column < 256; ++column) {
      const int64_t unit = row / 16 * 2 + column / 128;
      const int64_t byte = unit * 2048 + column % 128 / 4 * 64 + row % 16 * 4 + column % 4;
      const bool inside = row < n_rows && column < n_cols;
      const int q = inside ? w.codes[static_cast<size_t>(row * n_cols + column)] : 0;
      REQUIRE(w.packed_codes[static_cast<size_t>(byte)] - 128 == q);
      if (row >= n_rows) REQUIRE(w.packed_scales[static_cast<size_t>(unit * 16 + row % 16)] == 0);
    }
  }
}
