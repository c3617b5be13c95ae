#include "quantize/group_quantizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/half.h"
#include "quantize/precision_policy.h"
#include "quantize/reference_quantizer.h"

namespace flexq::test {
namespace {

void check_row(const std::vector<float>& weights, float multiplier) {
  const int64_t n_cols = static_cast<int64_t>(weights.size());
  std::vector<int8_t> codes(weights.size());
  std::vector<uint16_t> scales((weights.size() + 127) / 128);
  quantize_weight_row(weights.data(), n_cols, multiplier, codes.data(), scales.data());
  const ReferenceRow expected = quantize_reference(weights.data(), n_cols, multiplier);
  for (size_t g = 0; g < scales.size(); ++g)
    CHECK_MESSAGE(scales[g] == expected.scales[g], "group " << g << " of " << n_cols);
  for (size_t i = 0; i < codes.size(); ++i)
    CHECK_MESSAGE(int{codes[i]} == int{expected.codes[i]},
                  "column " << i << " of " << n_cols << ", weight " << weights[i]);
}

}  // namespace

TEST_CASE("rows quantize as the definition says") {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (const int64_t n_cols : {1, 2, 64, 127, 128, 129, 172, 256, 300, 1000}) {
    for (const float spread : {1e-7f, 1e-4f, 0.02f, 1.0f, 300.0f, 1e9f}) {
      std::vector<float> weights(static_cast<size_t>(n_cols));
      float min_scale = INFINITY;
      float max_scale = 0;
      for (int64_t begin = 0; begin < n_cols; begin += 128) {
        const int64_t n = std::min<int64_t>(128, n_cols - begin);
        for (int64_t i = 0; i < n; ++i)
          weights[static_cast<size_t>(begin + i)] = spread * normal(random);
        const float scale = group_scale(max_magnitude(weights.data() + begin, n));
        min_scale = std::min(min_scale, scale);
        max_scale = std::max(max_scale, scale);
      }
      check_row(weights, choose_scale_multiplier(min_scale, max_scale));
    }
  }
}

TEST_CASE("ties round to even, and every code occurs") {
  // The scale is exactly 1: codes are the rounded weights themselves.
  std::vector<float> weights = {31.0f};
  for (float w = -31.0f; w <= 31.0f; w += 0.5f)
    weights.push_back(w);
  std::vector<int8_t> codes(weights.size());
  uint16_t scale = 0;
  quantize_weight_row(weights.data(), static_cast<int64_t>(weights.size()), 1.0f, codes.data(),
                      &scale);
  CHECK(half_to_float(scale) == 1.0f);
  for (size_t i = 0; i < weights.size(); ++i)
    CHECK(int{codes[i]} == static_cast<int>(std::nearbyint(weights[i])));
  check_row(weights, 1.0f);

  // A scale that rounds down: -31.02 of it is still -31, and nothing leaves [-32, 31].
  check_row({-0.100019f, 0.100019f, 0.05f}, 1.0f);
  check_row(std::vector<float>(200, 0.0f), choose_scale_multiplier(1e-5f, 1e-5f));
}

TEST_CASE("one multiplier keeps all scales of a tensor normal") {
  CHECK(choose_scale_multiplier(1e-3f, 2.0f) == 1.0f);
  CHECK(choose_scale_multiplier(0x1p-14f, 0x1p15f) == 1.0f);
  CHECK(choose_scale_multiplier(1e-5f, 1e-5f) == 0.125f);  // 1e-5 lies in [2^-17, 2^-16)
  CHECK(choose_scale_multiplier(1.0f, 0x1.8p15f) == 2.0f);
  std::mt19937 random(5);
  std::uniform_real_distribution<float> exponent(-16.6f, 100.0f);
  for (int i = 0; i < 100'000; ++i) {
    const float a = std::exp2(exponent(random));
    const float b = std::exp2(exponent(random));
    const float multiplier = choose_scale_multiplier(std::min(a, b), std::max(a, b));
    int unused = 0;
    REQUIRE(std::frexp(multiplier, &unused) == 0.5f);
    for (const float scale : {a, b}) {
      const uint16_t stored = store_scale(scale, multiplier);
      REQUIRE(stored >= 0x0400);  // not subnormal
      REQUIRE(stored < 0x7c00);   // finite
      const float used = half_to_float(stored) * multiplier;
      if (std::max(a, b) / std::min(a, b) < 0x1p28f)
        REQUIRE(std::fabs(used - scale) <= scale * 0x1p-11f);
    }
  }
}

TEST_CASE("the largest magnitude shows NaN and infinity") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values = {1.0f, -3.0f, 2.0f, -0.0f};
  CHECK(max_magnitude(values.data(), 4) == 3.0f);
  CHECK(max_magnitude(values.data(), 0) == 0.0f);
  values.push_back(-INFINITY);
  CHECK(max_magnitude(values.data(), 5) == INFINITY);
  values.push_back(-nan);
  CHECK(std::isnan(max_magnitude(values.data(), 6)));
}

TEST_CASE("precision policies") {
  CHECK(precision_policies().size() == 5);
  const auto flexq = find_precision_policy("flexq");
  REQUIRE(flexq.ok());
  CHECK(flexq->quantize_weights);
  CHECK(flexq->bits_for(LinearKind::kGate) == 6);
  CHECK(flexq->bits_for(LinearKind::kDown) == 8);
  CHECK(find_precision_policy("w6a16")->bits_for(LinearKind::kQ) == 16);
  CHECK_FALSE(find_precision_policy("fp16")->quantize_weights);
  const auto unknown = find_precision_policy("w4a4");
  CHECK(unknown.status().code() == StatusCode::kUnsupportedValue);
  CHECK(unknown.status().message() ==
        "unknown policy 'w4a4', expected one of flexq, w6a6, w6a8, w6a16, fp16");
}

}  // namespace flexq::test
