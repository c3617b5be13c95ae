// expf16 against std::exp in double over all magnitudes, and its AVX2 and AVX-512 forms against the
// scalar one.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/vector_math.h"
#include "kernels/kernel_test_support.h"

using namespace flexq;
using namespace flexq::test;

namespace flexq::test {
void exp_avx2(const float* x, int64_t n, float* out);    // exp_avx2_probe.cpp
void exp_avx512(const float* x, int64_t n, float* out);  // exp_avx512_probe.cpp
}  // namespace flexq::test

namespace {

// Every 997th bit pattern, and a fine walk over the range that gives finite results.
std::vector<float> exponents() {
  std::vector<float> x;
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 997)
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  for (double value = -110; value < 95; value += 0.00011)
    x.push_back(static_cast<float>(value));
  x.resize((x.size() + 15) / 16 * 16, 0.0f);
  return x;
}

}  // namespace

TEST_CASE("expf16: within 1.2e-7 of exp, and half a unit of the last place when subnormal") {
  double worst = 0;
  for (const float x : exponents()) {
    const float found = expf16(x);
    if (std::isnan(x)) {
      REQUIRE(std::isnan(found));
      continue;
    }
    const double expected = std::exp(static_cast<double>(x));
    if (expected > static_cast<double>(std::numeric_limits<float>::max())) {
      // Within the error of the largest float both answers are right.
      REQUIRE((std::isinf(found) || expected < 3.4028238e38));
      continue;
    }
    const double error = std::fabs(static_cast<double>(found) - expected);
    if (expected >= 0x1p-126) worst = std::max(worst, error / expected);
    REQUIRE(error <= 1.2e-7 * expected + 0x1p-150);
  }
  MESSAGE("worst relative error of expf16: " << worst);
}

TEST_CASE("expf16: limits") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(expf16(0.0f) == 1.0f);
  CHECK(expf16(-0.0f) == 1.0f);
  CHECK(comparable_bits(expf16(-infinity)) == 0);
  CHECK(expf16(infinity) == infinity);
  CHECK(expf16(1e30f) == infinity);
  CHECK(comparable_bits(expf16(-1e30f)) == 0);
  CHECK(std::isnan(expf16(std::numeric_limits<float>::quiet_NaN())));
}

#ifdef FLEXQ_WITH_X86_KERNELS
TEST_CASE("expf16: the vector forms give the bits of the scalar form") {
  const std::vector<float> x = exponents();
  std::vector<float> scalar_form(x.size());
  std::transform(x.begin(), x.end(), scalar_form.begin(),
                 [](float value) { return expf16(value); });
  const auto check = [&](const char* table, void (*form)(const float*, int64_t, float*)) {
    if (select_cpu_kernels(table) == nullptr) {
      MESSAGE("SKIPPED: this processor cannot run the " << table << " kernels");
      return;
    }
    std::vector<float> vector_form(x.size());
    form(x.data(), static_cast<int64_t>(x.size()), vector_form.data());
    const int64_t index = first_difference(scalar_form, vector_form);
    if (index >= 0) FAIL(table << " differs at x = " << hex(x[static_cast<size_t>(index)]));
  };
  check("avx2", exp_avx2);
  check("avx512vnni", exp_avx512);
}
#endif
