// Known answers of Philox 4x32-10, from kat_vectors of the Random123 distribution.
#include "runtime/philox.h"

#include <doctest/doctest.h>

namespace flexq::test {

TEST_CASE("philox 4x32-10: known answers of Random123") {
  using Words = std::array<uint32_t, 4>;
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr uint32_t kOnes = 0xffffffff;
  CHECK(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("philox: the uniform of a position is the top 24 bits of the first word") {
  CHECK(uniform_at(0, 0) == static_cast<float>(0x6627e8) / 16777216.0f);
  // Both halves of the seed and the position matter.
  CHECK(uniform_at(1, 0) != uniform_at(0, 0));
  CHECK(uniform_at(uint64_t{1} << 32, 0) != uniform_at(0, 0));
  CHECK(uniform_at(0, 1) != uniform_at(0, 0));
  double sum = 0;
  for (int32_t position = 0; position < 10000; ++position) {
    const float uniform = uniform_at(9, position);
    REQUIRE(uniform >= 0.0f);
    REQUIRE(uniform < 1.0f);
    sum += static_cast<double>(uniform);
  }
  // Standard deviation of the mean: 1 / sqrt(12 * 10000).
  CHECK(sum / 10000 == doctest::Approx(0.5).epsilon(0.02));
}

}  // namespace flexq::test
