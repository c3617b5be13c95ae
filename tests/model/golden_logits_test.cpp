// T27: logits and greedy continuations against an independent PyTorch implementation.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "runtime/runtime_fixtures.h"
#include "support/safetensors_file.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr double kTolerance = 1e-3;

int32_t most_probable(const float* logits, int32_t n_vocab) {
  return static_cast<int32_t>(std::max_element(logits, logits + n_vocab) - logits);
}

void check_golden(const std::string& checkpoint, const std::string& golden_path) {
  const auto golden = read_reference_tensors(golden_path);
  const auto model = open_test_model(checkpoint, "auto", 2);
  const int32_t n_vocab = model->llama->config().n_vocab;
  ContextOptions options;
  options.context_tokens = 128;
  options.n_outputs = 64;
  const auto context = value_of(Context::create(model, options));

  for (int prompt = 0; prompt < 3; ++prompt) {
    CAPTURE(prompt);
    const std::string name = "prompt" + std::to_string(prompt);
    const std::vector<int32_t>& ids = golden.at(name + ".ids").i32;
    const std::vector<float>& expected = golden.at("fp32." + name + ".logits").f32;
    const std::vector<int32_t>& greedy = golden.at("fp32." + name + ".greedy").i32;
    REQUIRE(expected.size() == ids.size() * static_cast<size_t>(n_vocab));
    REQUIRE(greedy.size() == ids.size() + 48);

    require_ok(context->rewind(0, 0));
    const OutputRowsCopy rows = decode_rows(*context, 0, ids);
    double worst = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double difference =
          std::fabs(static_cast<double>(rows.logits[i]) - static_cast<double>(expected[i]));
      worst = std::max(worst, difference);
      if (!(difference <= kTolerance)) {
        FAIL("logits[" << i / static_cast<size_t>(n_vocab) << ", "
                       << i % static_cast<size_t>(n_vocab) << "]: " << rows.logits[i]
                       << ", expected " << expected[i]);
      }
    }
    MESSAGE(name << ": largest difference " << worst);

    std::vector<int32_t> tokens = ids;
    const float* logits = rows.logits.data() + rows.logits.size() - static_cast<size_t>(n_vocab);
    while (tokens.size() < greedy.size()) {
      tokens.push_back(most_probable(logits, n_vocab));
      decode_rows(*context, 0, std::span(tokens).last(1));
      logits = value_of(context->logits_row(0));
    }
    CHECK(tokens == greedy);
  }
}

}  // namespace

TEST_CASE("T27_golden_logits of wiki-tiny-1m") {
  check_golden(source_path("tests/data/wiki-tiny-1m"),
               source_path("tests/data/wiki-tiny-1m-golden/logits.safetensors"));
}

TEST_CASE("T27_golden_logits of wiki-llama2-28m") {
  const std::string checkpoint = reference_path("models/wiki-llama2-28m");
  const std::string golden = reference_path("golden/wiki-llama2-28m/logits.safetensors");
  if (checkpoint.empty() || golden.empty()) return;
  check_golden(checkpoint, golden);
}

}  // namespace flexq::test
