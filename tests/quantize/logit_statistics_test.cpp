#include "quantize/logit_statistics.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

namespace flexq::test {

TEST_CASE("sums over logits agree with sums in double") {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const int64_t n : {1, 15, 16, 17, 256, 300, 8192, 32'001}) {
    for (const float spread : {0.1f, 5.0f, 60.0f}) {
      for (const float scale : {1.0f, 0.85f}) {
        CAPTURE(n);
        CAPTURE(spread);
        std::vector<float> x(static_cast<size_t>(n)), y(x.size()), p(x.size());
        for (size_t i = 0; i < x.size(); ++i) {
          x[i] = spread * normal(random);
          y[i] = x[i] + 0.01f * normal(random);
        }
        double largest = -1e30, sum = 0;
        for (const float value : x)
          largest = std::max(largest, double{scale} * double{value});
        for (const float value : x)
          sum += std::exp(double{scale} * double{value} - largest);
        const double expected = largest + std::log(sum);
        const double found = log_sum_exp(x.data(), n, scale);
        // Beside the sum's own error, that of scale * x in fp32.
        CHECK(std::fabs(found - expected) <= 2e-6 + 2e-7 * std::fabs(largest));

        softmax(x.data(), n, scale, found, p.data());
        double total = 0, difference = 0;
        for (size_t i = 0; i < p.size(); ++i) {
          total += double{p[i]};
          difference += double{p[i]} * (double{x[i]} - double{y[i]});
        }
        CHECK(total == doctest::Approx(1).epsilon(2e-5));
        CHECK(std::fabs(expected_difference(p.data(), x.data(), y.data(), n) - difference) <=
              1e-7 * (1 + static_cast<double>(spread)));
      }
    }
  }
}

}  // namespace flexq::test
