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

constexpr WeightFormat kFormats[] = {WeightFormat::kInt6Group, WeightFormat::kInt8Group,
                                     WeightFormat::kInt8Row};

struct QuantizedRow {
  std::vector<int8_t> codes;
  std::vector<uint16_t> scales;
};

QuantizedRow quantized(WeightFormat format, const std::vector<float>& weights, float multiplier,
                       ScaleSearch search = ScaleSearch::kNone, const float* importance = nullptr) {
  const int64_t n_cols = static_cast<int64_t>(weights.size());
  QuantizedRow row;
  row.codes.resize(weights.size());
  row.scales.resize(static_cast<size_t>(scales_per_row(format, n_cols)));
  quantize_weight_row(format, weights.data(), n_cols, multiplier, search, importance,
                      row.codes.data(), row.scales.data());
  return row;
}

void check_row(WeightFormat format, const std::vector<float>& weights, float multiplier) {
  CAPTURE(static_cast<int>(format));
  const int64_t n_cols = static_cast<int64_t>(weights.size());
  const QuantizedRow found = quantized(format, weights, multiplier);
  const ReferenceRow expected = quantize_reference(format, weights.data(), n_cols, multiplier);
  REQUIRE(found.scales.size() == expected.scales.size());
  for (size_t g = 0; g < expected.scales.size(); ++g)
    CHECK_MESSAGE(found.scales[g] == expected.scales[g], "group " << g << " of " << n_cols);
  for (size_t i = 0; i < weights.size(); ++i)
    CHECK_MESSAGE(int{found.codes[i]} == int{expected.codes[i]},
                  "column " << i << " of " << n_cols << ", weight " << weights[i]);
}

}  // namespace

TEST_CASE("rows quantize as the definition says") {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (const int64_t n_cols : {1, 2, 64, 127, 128, 129, 172, 256, 300, 1000}) {
    for (const float spread : {1e-7f, 1e-4f, 0.02f, 1.0f, 300.0f, 1e9f}) {
      std::vector<float> weights(static_cast<size_t>(n_cols));
      for (float& weight : weights)
        weight = spread * normal(random);
      for (const WeightFormat format : kFormats) {
        const int64_t group = is_grouped(format) ? 128 : n_cols;
        float min_scale = INFINITY;
        float max_scale = 0;
        for (int64_t begin = 0; begin < n_cols; begin += group) {
          const int64_t n = std::min(group, n_cols - begin);
          const float scale = group_scale(format, max_magnitude(weights.data() + begin, n));
          min_scale = std::min(min_scale, scale);
          max_scale = std::max(max_scale, scale);
        }
        check_row(format, weights, choose_scale_multiplier(min_scale, max_scale));
      }
    }
  }
}

TEST_CASE("ties round to even, and every code occurs") {
  // The scale is exactly 1: codes are the rounded weights themselves.
  for (const WeightFormat format : kFormats) {
    const auto largest = static_cast<float>(max_weight_code(format));
    for (float begin = -largest; begin <= largest; begin += 63.0f) {
      std::vector<float> weights = {largest};
      for (float w = begin; w <= std::min(begin + 63.0f, largest); w += 0.5f)
        weights.push_back(w);
      REQUIRE(weights.size() <= 128);
      const QuantizedRow row = quantized(format, weights, 1.0f);
      CHECK(half_to_float(row.scales[0]) == 1.0f);
      for (size_t i = 0; i < weights.size(); ++i)
        CHECK(int{row.codes[i]} == static_cast<int>(std::nearbyint(weights[i])));
      check_row(format, weights, 1.0f);
    }
    // A scale that rounds down: the largest weight is a little more than the largest code.
    check_row(format, {-0.100019f, 0.100019f, 0.05f}, 1.0f);
    check_row(format, std::vector<float>(200, 0.0f), choose_scale_multiplier(1e-5f, 1e-5f));
  }
}

TEST_CASE("the smallest code is never needed") {
  // It would take a weight of 127.5 stored scales, while the scale rounds by 2^-11 of itself.
  std::mt19937 random(12);
  std::uniform_real_distribution<float> exponent(-1.0f, 10.0f);
  for (const WeightFormat format : kFormats) {
    for (int i = 0; i < 10'000; ++i) {
      const float weight = std::exp2(exponent(random));
      const QuantizedRow row = quantized(format, {-weight, 0.0f, weight}, 1.0f);
      REQUIRE(int{row.codes[0]} == -max_weight_code(format));
      REQUIRE(int{row.codes[2]} == max_weight_code(format));
    }
  }
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
  CHECK(precision_policies().size() == 7);
  const auto flexq = find_precision_policy("flexq");
  REQUIRE(flexq.ok());
  CHECK(flexq->weight_bits == 6);
  CHECK(flexq->bits_for(LinearKind::kGate) == 6);
  CHECK(flexq->bits_for(LinearKind::kDown) == 8);
  CHECK(find_precision_policy("w6a16")->bits_for(LinearKind::kQ) == 16);
  CHECK(find_precision_policy("fp16")->weight_bits == 16);
  for (const auto& [name, activation_bits] : {std::pair{"w8a8", 8}, {"w8a16", 16}}) {
    const auto policy = find_precision_policy(name);
    REQUIRE(policy.ok());
    CHECK(policy->weight_bits == 8);
    for (const int32_t bits : policy->activation_bits)
      CHECK(bits == activation_bits);
  }
  const auto unknown = find_precision_policy("w4a4");
  CHECK(unknown.status().code() == StatusCode::kUnsupportedValue);
  CHECK(unknown.status().message() ==
        "unknown policy 'w4a4', expected one of flexq, w6a6, w6a8, w6a16, w8a8, w8a16, fp16, or "
        "auto for a checkpoint that is quantized");
}

// The sum of importance * (weight - code * scale)^2 of one group, in double.
double group_error(const std::vector<float>& weights, const QuantizedRow& row, size_t group,
                   float multiplier, const std::vector<float>& importance) {
  double error = 0;
  for (size_t i = group * 128; i < std::min(weights.size(), group * 128 + 128); ++i) {
    const double scale = double{half_to_float(row.scales[group])} * double{multiplier};
    const double difference = double{weights[i]} - row.codes[i] * scale;
    error += double{importance[i]} * difference * difference;
  }
  return error;
}

TEST_CASE("a scale search never leaves more error than the plain scale, and mostly less") {
  std::mt19937 random(12);
  std::normal_distribution<float> normal;
  std::vector<float> weights(1000);
  std::vector<float> importance(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = 0.02f * normal(random);
    importance[i] = i % 7 == 0 ? 40.0f : 1.0f;
  }
  const std::vector<float> alike(weights.size(), 1.0f);
  const float multiplier = 0x1p-3f;
  const auto format = WeightFormat::kInt6Group;
  const QuantizedRow plain = quantized(format, weights, multiplier);
  const QuantizedRow searched = quantized(format, weights, multiplier, ScaleSearch::kError);
  const QuantizedRow weighted =
      quantized(format, weights, multiplier, ScaleSearch::kWeighted, importance.data());
  double plain_sum = 0, searched_sum = 0, plain_weighted = 0, searched_weighted = 0;
  for (size_t group = 0; group < plain.scales.size(); ++group) {
    CAPTURE(group);
    const double before = group_error(weights, plain, group, multiplier, alike);
    const double after = group_error(weights, searched, group, multiplier, alike);
    CHECK(after <= before * (1 + 1e-6));
    plain_sum += before;
    searched_sum += after;
    plain_weighted += group_error(weights, plain, group, multiplier, importance);
    searched_weighted += group_error(weights, weighted, group, multiplier, importance);
  }
  CHECK(searched_sum < 0.95 * plain_sum);
  CHECK(searched_weighted < 0.95 * plain_weighted);
  CHECK(searched_weighted < [&] {
    double sum = 0;
    for (size_t group = 0; group < plain.scales.size(); ++group)
      sum += group_error(weights, searched, group, multiplier, importance);
    return sum;
  }());
}

TEST_CASE("a scale search leaves a group of zeros, or without importance, as it is") {
  const std::vector<float> zeros(256);
  const auto format = WeightFormat::kInt6Group;
  const QuantizedRow plain = quantized(format, zeros, 1.0f);
  CHECK(quantized(format, zeros, 1.0f, ScaleSearch::kError).scales == plain.scales);
  std::vector<float> weights(256, 0.3f);
  weights[3] = 1.0f;
  CHECK(quantized(format, weights, 1.0f, ScaleSearch::kWeighted, zeros.data()).scales ==
        quantized(format, weights, 1.0f).scales);
}

}  // namespace flexq::test
