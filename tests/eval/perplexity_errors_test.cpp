// Windows, limits and cancels of the perplexity protocol, on a small synthetic model.
#include <doctest/doctest.h>

#include <cmath>

#include "eval/perplexity.h"
#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr auto kGoOn = [](int32_t, int32_t, double) { return false; };

std::string some_text() {
  std::string text;
  for (int i = 0; i < 60; ++i)
    text += "the hen and the rat sat on the mat, " + std::to_string(i) + " times. ";
  return text;
}

}  // namespace

TEST_CASE("perplexity is the mean over windows that start from an empty cache") {
  const TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), {});
  const auto model = open_test_model(directory.path(), "auto", 2);
  const std::string text = some_text();
  const std::vector<int32_t> tokens = value_of(model->tokenizer->encode(text));
  const auto n_windows = static_cast<int32_t>(tokens.size() / 32);
  REQUIRE(n_windows > 4);

  std::vector<double> window_nlls;
  const PerplexityResult result = value_of(
      evaluate_perplexity(model, text, 32, 0, [&](int32_t window, int32_t total, double nll) {
        CHECK(window == static_cast<int32_t>(window_nlls.size()));
        CHECK(total == n_windows);
        window_nlls.push_back(nll);
        return false;
      }));
  CHECK(result.n_windows == n_windows);
  CHECK(result.n_tokens == static_cast<int64_t>(tokens.size()));
  REQUIRE(window_nlls.size() == static_cast<size_t>(n_windows));

  ContextOptions options;
  options.context_tokens = 32;
  options.n_outputs = 32;
  const auto context = value_of(Context::create(model, options));
  double total = 0;
  for (size_t window = 0; window < window_nlls.size(); ++window) {
    require_ok(context->rewind(0, 0));
    const auto part = std::span<const int32_t>(tokens).subspan(window * 32, 32);
    const OutputRowsCopy rows = decode_rows(*context, 0, part);
    double nll = 0;
    for (size_t i = 0; i + 1 < part.size(); ++i) {
      double sum = 0;
      for (size_t v = 0; v < 320; ++v)
        sum += std::exp(static_cast<double>(rows.logits[i * 320 + v]));
      const auto next = static_cast<size_t>(part[i + 1]);
      nll += std::log(sum) - static_cast<double>(rows.logits[i * 320 + next]);
    }
    CHECK(window_nlls[window] == doctest::Approx(nll / 31).epsilon(1e-6));
    total += nll / 31;
  }
  CHECK(result.mean_nll == doctest::Approx(total / n_windows).epsilon(1e-6));
  CHECK(result.perplexity == doctest::Approx(std::exp(result.mean_nll)));
  CHECK(value_of(evaluate_perplexity(model, text, 32, 2, kGoOn)).n_windows == 2);
}

TEST_CASE("perplexity refuses what it cannot measure") {
  const TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), {});
  const auto model = open_test_model(directory.path());
  const std::string text = some_text();
  const auto code = [&](std::string_view of, int32_t window) {
    return evaluate_perplexity(model, of, window, 0, kGoOn).status().code();
  };
  CHECK(code(text, 1) == StatusCode::kInvalidArgument);
  CHECK(code(text, 129) == StatusCode::kInvalidArgument);
  CHECK(code("short", 64) == StatusCode::kInvalidArgument);
  CHECK(code("", 2) == StatusCode::kInvalidArgument);
  int n_windows = 0;
  const auto cancelled = evaluate_perplexity(
      model, text, 16, 0, [&](int32_t, int32_t, double) { return ++n_windows == 2; });
  CHECK(cancelled.status().code() == StatusCode::kCancelled);
  CHECK(n_windows == 2);

  const TemporaryDirectory mute;
  SyntheticOptions synthetic;
  synthetic.with_tokenizer = false;
  write_synthetic_checkpoint(mute.path(), synthetic);
  CHECK(evaluate_perplexity(open_test_model(mute.path()), text, 16, 0, kGoOn).status().code() ==
        StatusCode::kNotFound);
}

}  // namespace flexq::test
