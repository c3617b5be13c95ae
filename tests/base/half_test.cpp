// half.h against the compiler's own binary16, for every pattern.
#include "base/half.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

namespace flexq {
namespace {

// g++ 12 for aarch64 has the type in C only.
#if defined(__FLT16_MAX__) && !(defined(__aarch64__) && defined(__GNUC__) && !defined(__clang__))
__extension__ using CompilerHalf = _Float16;

float compiler_half_to_float(uint16_t bits) {
  return static_cast<float>(std::bit_cast<CompilerHalf>(bits));
}
uint16_t compiler_float_to_half(float value) {
  return std::bit_cast<uint16_t>(static_cast<CompilerHalf>(value));
}
#define FLEXQ_HAS_COMPILER_HALF 1
#endif

// The definition of binary16, by arithmetic.
float half_by_definition(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int mantissa = bits & 0x3ff;
  const float sign = (bits & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 0x1f)
    return mantissa == 0 ? sign * std::numeric_limits<float>::infinity()
                         : std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
}

TEST_CASE("half: every pattern converts as defined and survives the round trip") {
  int wrong = 0;
  for (uint32_t pattern = 0; pattern <= 0xffff; ++pattern) {
    const auto bits = static_cast<uint16_t>(pattern);
    const float value = half_to_float(bits);
    const float expected = half_by_definition(bits);
    const bool is_nan = std::isnan(expected);
    const bool same = is_nan ? std::isnan(value)
                             : std::bit_cast<uint32_t>(value) == std::bit_cast<uint32_t>(expected);
    const uint16_t back = float_to_half(value);
    const bool round_trip = is_nan ? std::isnan(half_to_float(back)) : back == bits;
    if (!same || !round_trip) {
      CAPTURE(pattern);
      CHECK(value == expected);
      CHECK(back == bits);
      if (++wrong > 5) break;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("half: rounding at, just below and just above every midpoint") {
  for (uint32_t pattern = 0; pattern < 0x7bff; ++pattern) {
    const auto low = static_cast<uint16_t>(pattern);
    const auto high = static_cast<uint16_t>(pattern + 1);
    // Exact in fp32: 13 bits of mantissa are to spare.
    const float middle = (half_to_float(low) + half_to_float(high)) / 2;
    const uint16_t even = (low & 1) == 0 ? low : high;
    const float below = std::nextafter(middle, 0.0f);
    const float above = std::nextafter(middle, 1e9f);
    REQUIRE(float_to_half(middle) == even);
    REQUIRE(float_to_half(below) == low);
    REQUIRE(float_to_half(above) == high);
    REQUIRE(float_to_half(-middle) == (even | 0x8000));
  }
}

TEST_CASE("half: the ends of the range") {
  CHECK(float_to_half(65504.0f) == 0x7bff);
  CHECK(float_to_half(std::nextafter(65520.0f, 0.0f)) == 0x7bff);
  CHECK(float_to_half(65520.0f) == 0x7c00);
  CHECK(float_to_half(std::numeric_limits<float>::infinity()) == 0x7c00);
  CHECK(float_to_half(-std::numeric_limits<float>::infinity()) == 0xfc00);
  CHECK(float_to_half(0x1p-25f) == 0);
  CHECK(float_to_half(std::nextafter(0x1p-25f, 1.0f)) == 1);
  CHECK(float_to_half(-0.0f) == 0x8000);
  CHECK((float_to_half(std::numeric_limits<float>::quiet_NaN()) & 0x7fff) > 0x7c00);
  CHECK(bf16_to_float(0x3f80) == 1.0f);
  CHECK(bf16_to_float(0xc040) == -3.0f);
}

#ifdef FLEXQ_HAS_COMPILER_HALF
TEST_CASE("half: the compiler's conversions agree") {
  for (uint32_t pattern = 0; pattern <= 0xffff; ++pattern) {
    const auto bits = static_cast<uint16_t>(pattern);
    const float expected = compiler_half_to_float(bits);
    if (std::isnan(expected)) continue;
    REQUIRE(half_to_float(bits) == expected);
  }
  // A stride over all fp32 patterns that meets every exponent and many mantissas.
  for (uint64_t pattern = 0; pattern <= 0xffffffffu; pattern += 9973) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(pattern));
    if (std::isnan(value)) continue;
    CAPTURE(pattern);
    REQUIRE(float_to_half(value) == compiler_float_to_half(value));
  }
}
#endif

}  // namespace
}  // namespace flexq
