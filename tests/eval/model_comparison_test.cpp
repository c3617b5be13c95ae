// Two models on one text, against what their logits say in double precision.
#include "eval/model_comparison.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "eval/perplexity.h"
#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr size_t kVocab = 320;
constexpr auto kGoOn = [](int64_t, int64_t) { return false; };

std::string some_text() {
  std::string text;
  for (int i = 0; i < 60; ++i)
    text += "the hen and the rat sat on the mat, " + std::to_string(i) + " times. ";
  return text;
}

// ln softmax of a row, in double.
std::vector<double> log_softmax_of(std::span<const float> logits) {
  double sum = 0;
  for (const float logit : logits)
    sum += std::exp(static_cast<double>(logit));
  std::vector<double> result;
  for (const float logit : logits)
    result.push_back(static_cast<double>(logit) - std::log(sum));
  return result;
}

double divergence(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += std::exp(a[i]) * (a[i] - b[i]);
  return sum;
}

template <typename T>
int32_t largest(std::span<const T> values) {
  return static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

struct TwoModels {
  TemporaryDirectory directory;
  std::shared_ptr<const LoadedModel> a;
  std::shared_ptr<const LoadedModel> b;
  TwoModels() {
    write_synthetic_checkpoint(directory.path(), {});
    a = open_test_model(directory.path(), "auto", 2);
    b = open_test_model(quantized_copy(directory.path(), "w6a6", directory.path()), "auto", 1);
  }
};

}  // namespace

TEST_CASE("one position: divergence, likelihoods and top-1 of two rows of logits") {
  const std::vector<float> a = {1.0f, 4.0f, -2.0f, 4.0f, 0.5f};
  const std::vector<float> b = {1.5f, 3.0f, -90.0f, 5.0f, 0.5f};
  const std::vector<double> p_a = log_softmax_of(a);
  const std::vector<double> p_b = log_softmax_of(b);
  for (int32_t target = 0; target < 5; ++target) {
    const PositionComparison found = compare_position(a.data(), b.data(), 5, target);
    CHECK(found.top_a == 1);  // the first of two
    CHECK(found.top_b == 3);
    CHECK(found.nll_a == doctest::Approx(-p_a[static_cast<size_t>(target)]).epsilon(1e-6));
    CHECK(found.nll_b == doctest::Approx(-p_b[static_cast<size_t>(target)]).epsilon(1e-6));
    CHECK(found.kl == doctest::Approx(divergence(p_a, p_b)).epsilon(1e-6));
  }
  CHECK(compare_position(a.data(), a.data(), 5, 0).kl == 0.0);
  // The same distribution, whatever is added to all logits; and no overflow.
  std::vector<float> shifted = a;
  for (float& logit : shifted)
    logit += 3000.0f;
  CHECK(std::fabs(compare_position(a.data(), shifted.data(), 5, 0).kl) < 1e-6);
}

TEST_CASE("a comparison is the mean over the positions of all windows") {
  const TwoModels models;
  const std::string text = some_text();
  constexpr int32_t kWindow = 100;  // two pieces of 64 rows, the second ragged
  const std::vector<int32_t> tokens = value_of(models.a->tokenizer->encode(text));
  const auto n_windows = static_cast<int32_t>(tokens.size()) / kWindow;
  REQUIRE(n_windows > 3);

  std::vector<int64_t> progress;
  const ComparisonResult result = value_of(
      compare_models(models.a, models.b, text, kWindow, 0, [&](int64_t done, int64_t total) {
        CHECK(total == n_windows * (kWindow - 1));
        progress.push_back(done);
        return false;
      }));
  CHECK(progress.size() == static_cast<size_t>(2 * n_windows));
  CHECK(std::is_sorted(progress.begin(), progress.end()));
  CHECK(progress.back() == result.n_positions);
  CHECK(result.n_windows == n_windows);
  CHECK(result.n_tokens == static_cast<int64_t>(tokens.size()));
  CHECK(result.n_positions == n_windows * (kWindow - 1));

  ContextOptions options;
  options.context_tokens = kWindow;
  options.n_outputs = kWindow;
  const auto context_a = value_of(Context::create(models.a, options));
  const auto context_b = value_of(Context::create(models.b, options));
  double kl = 0;
  int64_t n_same = 0;
  int64_t n_lost = 0;
  int64_t n_gained = 0;
  for (int32_t window = 0; window < n_windows; ++window) {
    const auto part = std::span(tokens).subspan(static_cast<size_t>(window * kWindow), kWindow);
    require_ok(context_a->rewind(0, 0));
    require_ok(context_b->rewind(0, 0));
    const OutputRowsCopy rows_a = decode_rows(*context_a, 0, part);
    const OutputRowsCopy rows_b = decode_rows(*context_b, 0, part);
    for (size_t i = 0; i + 1 < part.size(); ++i) {
      const auto row_a = std::span(rows_a.logits).subspan(i * kVocab, kVocab);
      const auto row_b = std::span(rows_b.logits).subspan(i * kVocab, kVocab);
      kl += divergence(log_softmax_of(row_a), log_softmax_of(row_b));
      const int32_t top_a = largest(row_a);
      const int32_t top_b = largest(row_b);
      if (top_a == top_b) ++n_same;
      if (top_a != top_b && top_a == part[i + 1]) ++n_lost;
      if (top_a != top_b && top_b == part[i + 1]) ++n_gained;
    }
  }
  CHECK(result.mean_kl ==
        doctest::Approx(kl / static_cast<double>(result.n_positions)).epsilon(1e-4));
  CHECK(result.mean_kl > 1e-5);
  CHECK(result.n_same_top1 == n_same);
  CHECK(result.n_same_top1 < result.n_positions);
  CHECK(result.n_lost == n_lost);
  CHECK(result.n_gained == n_gained);
  const auto perplexity = [&](const std::shared_ptr<const LoadedModel>& model) {
    return value_of(evaluate_perplexity(model, text, kWindow, 0,
                                        [](int32_t, int32_t, double) { return false; }));
  };
  CHECK(result.mean_nll_a == doctest::Approx(perplexity(models.a).mean_nll).epsilon(1e-6));
  CHECK(result.mean_nll_b == doctest::Approx(perplexity(models.b).mean_nll).epsilon(1e-6));
  // The order of the sums does not depend on the threads, of which B has fewer.
  const ComparisonResult swapped =
      value_of(compare_models(models.b, models.a, text, kWindow, 0, kGoOn));
  CHECK(swapped.mean_nll_a == result.mean_nll_b);
  CHECK(swapped.mean_nll_b == result.mean_nll_a);
  CHECK(swapped.n_lost == result.n_gained);
  CHECK(value_of(compare_models(models.a, models.b, text, kWindow, 2, kGoOn)).n_windows == 2);

  const ComparisonResult same =
      value_of(compare_models(models.a, models.a, text, kWindow, 0, kGoOn));
  CHECK(same.mean_kl == 0.0);
  CHECK(same.n_same_top1 == same.n_positions);
  CHECK(same.n_lost + same.n_gained == 0);
}

TEST_CASE("comparison refuses what it cannot compare") {
  const TwoModels models;
  const std::string text = some_text();
  const auto code = [&](const std::shared_ptr<const LoadedModel>& b, std::string_view of,
                        int32_t window) {
    return compare_models(models.a, b, of, window, 0, kGoOn).status().code();
  };
  CHECK(code(models.b, text, 1) == StatusCode::kInvalidArgument);
  CHECK(code(models.b, text, 129) == StatusCode::kInvalidArgument);
  CHECK(code(models.b, "short", 64) == StatusCode::kInvalidArgument);
  int n_calls = 0;
  CHECK(compare_models(models.a, models.b, text, 16, 0,
                       [&](int64_t, int64_t) { return ++n_calls == 2; })
            .status()
            .code() == StatusCode::kCancelled);
  CHECK(n_calls == 2);

  const auto other = [&](const SyntheticOptions& synthetic) {
    const TemporaryDirectory directory;
    write_synthetic_checkpoint(directory.path(), synthetic);
    return open_test_model(directory.path());
  };
  SyntheticOptions synthetic;
  synthetic.with_tokenizer = false;
  CHECK(code(other(synthetic), text, 16) == StatusCode::kNotFound);
  synthetic = {};
  synthetic.config.n_vocab = 352;
  CHECK(code(other(synthetic), text, 16) == StatusCode::kInvalidArgument);
  // Vocabularies of one size, other words.
  synthetic.config.n_vocab = 512;
  const auto sentencepiece = other(synthetic);
  synthetic.byte_level_tokenizer = true;
  const Status differs =
      compare_models(sentencepiece, other(synthetic), text, 16, 0, kGoOn).status();
  CHECK(differs.code() == StatusCode::kInvalidArgument);
  CHECK(differs.message().find("same tokens") != std::string::npos);
}

}  // namespace flexq::test
