#include "base/checked.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

namespace flexq {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

TEST_CASE("checked sizes: the last sum and product that fit, and the first that do not") {
  CHECK(checked_add<int64_t>(kMax - 1, 1) == kMax);
  CHECK_FALSE(checked_add<int64_t>(kMax, 1).has_value());
  CHECK(checked_mul<int64_t>(kMax / 2, 2) == kMax - 1);
  CHECK_FALSE(checked_mul<int64_t>(kMax / 2 + 1, 2).has_value());
  CHECK_FALSE(checked_mul<uint32_t>(0x10000, 0x10000).has_value());

  CHECK(CheckedSize(3).mul(5).add(1).align_up(64).value() == 64);
  CHECK(CheckedSize(kMax - 63).align_up(64).value() == kMax - 63);
  CHECK_FALSE(CheckedSize(kMax - 62).align_up(64).valid());
}

TEST_CASE("checked sizes: an error is never forgotten") {
  CheckedSize size(kMax);
  size.add(1);
  size.mul(0).add(5).align_up(64);
  CHECK_FALSE(size.valid());
  CHECK(size.value() == -1);
  CHECK_FALSE(CheckedSize(-1).valid());
  CHECK_FALSE(CheckedSize(1).add(-1).valid());
  CHECK_FALSE(CheckedSize(0).mul(-1).valid());
}

TEST_CASE("checked sizes: division and alignment") {
  CHECK(ceil_div(0, 128) == 0);
  CHECK(ceil_div(1, 128) == 1);
  CHECK(ceil_div(128, 128) == 1);
  CHECK(ceil_div(129, 128) == 2);
  CHECK(ceil_div(kMax, 1) == kMax);
  CHECK(align_up(0, 64) == 0);
  CHECK(align_up(65, 64) == 128);
}

}  // namespace
}  // namespace flexq
