// What a text's likelihood adds to the expectation of its rise.
#include "quantize/likelihood_ratio.h"

#include <doctest/doctest.h>

namespace flexq::test {

TEST_CASE("likelihood ratio: an endless text is believed, an empty one is not") {
  CHECK(cautious_likelihood_ratio(0.01, 0.008, 0.012, int64_t{1} << 50) == doctest::Approx(0.8));
  CHECK(cautious_likelihood_ratio(0.01, 0.008, 0.012, 0) == 1.0);
  // One token says nothing: the expectation and its own deviation are left.
  CHECK(cautious_likelihood_ratio(0.01, 0.008, 0.012, 1) == doctest::Approx(1.2).epsilon(1e-3));
  CHECK(cautious_likelihood_ratio(0, 0.008, 0.012, 1000) == 1.0);
  CHECK(cautious_likelihood_ratio(-0.01, 0.008, 0.012, 1000) == 1.0);
}

TEST_CASE("likelihood ratio: between what is expected and what is measured, and bounded") {
  // 10,000 tokens: the measured ratio of 0.5 has a deviation of 0.19, about that of the
  // expectation; their mean 0.74 with 0.14 on top.
  CHECK(cautious_likelihood_ratio(0.01, 0.005, 0.012, 10'000) ==
        doctest::Approx(0.875).epsilon(0.01));
  CHECK(cautious_likelihood_ratio(0.01, -0.1, 0.012, 1'000'000) == 0.5);
  CHECK(cautious_likelihood_ratio(0.01, 0.1, 0.012, 1'000'000) == 2.0);
}

}  // namespace flexq::test
