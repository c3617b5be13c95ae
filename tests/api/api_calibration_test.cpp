// Policy auto through flexq.h: goals, the error of a missed budget, and what the bundle says after.
#include <doctest/doctest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "api/api_fixture.h"
#include "api/api_handles.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

std::string calibration_text() {
  std::ifstream file(source_path("samples/data/stories260k/greedy.txt"), std::ios::binary);
  const std::string story{std::istreambuf_iterator<char>(file), {}};
  std::string text;
  for (int i = 0; i < 12; ++i)
    text += story;
  return text;
}

std::string json_of(const std::string& path) {
  Source source;
  REQUIRE_OK(flexq_source_open(path.c_str(), source.out()));
  Bundle bundle;
  REQUIRE_OK(flexq_bundle_open(source, bundle.out()));
  int64_t n_bytes = 0;
  flexq_bundle_json(bundle, nullptr, 0, &n_bytes);
  std::string json(static_cast<size_t>(n_bytes), ' ');
  REQUIRE_OK(flexq_bundle_json(bundle, json.data(), n_bytes, &n_bytes));
  return json;
}

}  // namespace

TEST_CASE("policy auto: asks for a goal and a text, and the bundle tells what was measured") {
  const TemporaryDirectory directory;
  const std::string checkpoint = source_path("samples/data/stories260k");
  const std::string path = directory.file("auto.flexq");
  const std::string text = calibration_text();
  const auto text_bytes = static_cast<int64_t>(text.size());
  QuantizeOptions options;
  REQUIRE_OK(flexq_quantize_options_create(options.out()));
  REQUIRE_OK(flexq_quantize_options_set_policy(options, "auto"));
  REQUIRE_OK(flexq_quantize_options_set(options, "calibration_windows", "4"));
  CHECK_ERROR(flexq_quantize(checkpoint.c_str(), path.c_str(), options), "INVALID_ARGUMENT",
              "found neither");
  REQUIRE_OK(flexq_quantize_options_set_a8_fraction(options, 0.25));
  REQUIRE_OK(flexq_quantize_options_set_calibration(options, "", 0));
  CHECK_ERROR(flexq_quantize(checkpoint.c_str(), path.c_str(), options), "INVALID_ARGUMENT",
              "expected text, found none");
  REQUIRE_OK(flexq_quantize_options_set_calibration(options, text.data(), text_bytes));
  REQUIRE_OK(flexq_quantize(checkpoint.c_str(), path.c_str(), options));
  const std::string json = json_of(path);
  for (const char* part : {"\"a8_fraction\"", "\"expected_rise_a6\"", "\"input_max\"", "\"front\"",
                           "\"text_sha256\"", "\"policy\": \"auto\""}) {
    CAPTURE(part);
    CHECK(json.find(part) != std::string::npos);
  }
}

TEST_CASE("auto_missed_budget: nothing is written, unless by force") {
  const TemporaryDirectory directory;
  const std::string checkpoint = source_path("samples/data/stories260k");
  const std::string text = calibration_text();
  QuantizeOptions options;
  REQUIRE_OK(flexq_quantize_options_create(options.out()));
  REQUIRE_OK(flexq_quantize_options_set_policy(options, "auto"));
  REQUIRE_OK(flexq_quantize_options_set(options, "calibration_windows", "4"));
  REQUIRE_OK(flexq_quantize_options_set_calibration(options, text.data(),
                                                    static_cast<int64_t>(text.size())));
  const std::string missed = directory.file("missed.flexq");
  REQUIRE_OK(flexq_quantize_options_set_a8_fraction(options, 0.25));
  REQUIRE_OK(flexq_quantize_options_set_a8_fraction(options, -1));  // takes that goal back
  REQUIRE_OK(flexq_quantize_options_set_perplexity_budget(options, 1e-7));
  // With searched scales the errors of 8-bit activations happen to make up for those of the
  // weights.
  REQUIRE_OK(flexq_quantize_options_set(options, "scale_search", "none"));
  CHECK_ERROR(flexq_quantize(checkpoint.c_str(), missed.c_str(), options), "BUDGET_NOT_MET",
              "the best that 8-bit activations reach");
  CHECK_FALSE(std::filesystem::exists(missed));
  REQUIRE_OK(flexq_quantize_options_set(options, "force", "1"));
  REQUIRE_OK(flexq_quantize(checkpoint.c_str(), missed.c_str(), options));
  CHECK(json_of(missed).find("\"goal_met\": false") != std::string::npos);
}

TEST_CASE("policy auto is for checkpoints") {
  QuantizeOptions options;
  REQUIRE_OK(flexq_quantize_options_create(options.out()));
  REQUIRE_OK(flexq_quantize_options_set_policy(options, "auto"));
  Source source;
  CHECK_ERROR(flexq_source_synthetic("tinyllama-1.1b", options, source.out()), "UNSUPPORTED_VALUE",
              "auto");
}

}  // namespace flexq::test
