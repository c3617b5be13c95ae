// Scores and perplexity against what the logits say.
#include <cmath>

#include "api/api_fixture.h"
#include "support/test_data.h"

using namespace flexq::test;

namespace {

struct Windows {
  std::vector<double> nll;
  int32_t n_windows = 0;
  int32_t stop_after = INT32_MAX;
};

int32_t record_window(int32_t window, int32_t n_windows, double nll, void* user_data) {
  auto* windows = static_cast<Windows*>(user_data);
  CHECK(window == static_cast<int32_t>(windows->nll.size()));
  windows->n_windows = n_windows;
  windows->nll.push_back(nll);
  return static_cast<int32_t>(windows->nll.size()) >= windows->stop_after ? 1 : 0;
}

struct Progress {
  int64_t last = 0;
  int64_t total = 0;
  int n_calls = 0;
  int stop_at_call = INT32_MAX;
};

int32_t record_progress(int64_t done, int64_t total, void* user_data) {
  auto* progress = static_cast<Progress*>(user_data);
  CHECK(done > progress->last);
  CHECK(done <= total);
  progress->last = done;
  progress->total = total;
  return ++progress->n_calls >= progress->stop_at_call ? 1 : 0;
}

std::string story() {
  return file_bytes(source_path("samples/data/stories260k/greedy.txt"));
}

}  // namespace

TEST_CASE("scores are the log-softmax of the logits") {
  const Model model = load_model(stories_bundle());
  std::vector<int32_t> tokens = encode(model, story());
  REQUIRE(tokens.size() >= 100);
  tokens.resize(100);
  const Context context = make_context(model, [](flexq_context_options* options) {
    REQUIRE_OK(flexq_context_options_set_chunk_tokens(options, 32));
    REQUIRE_OK(flexq_context_options_set_outputs(options, 100));
  });
  Batch batch;
  REQUIRE_OK(flexq_batch_create(batch.out()));
  REQUIRE_OK(flexq_batch_add(batch, 0, tokens.data(), 100, FLEXQ_OUTPUT_ALL));
  REQUIRE_OK(flexq_context_decode(context, batch));
  CHECK(flexq_context_output_count(context) == 100);
  std::vector<double> expected;
  for (int32_t i = 0; i + 1 < 100; ++i) {
    const float* logits = nullptr;
    int32_t n_vocab = 0;
    REQUIRE_OK(flexq_context_logits(context, i, &logits, &n_vocab));
    CHECK(n_vocab == 512);
    expected.push_back(log_softmax(logits, n_vocab, tokens[static_cast<size_t>(i + 1)]));
  }
  const float* embedding = nullptr;
  int32_t n_embd = 0;
  REQUIRE_OK(flexq_context_embedding(context, 99, &embedding, &n_embd));
  CHECK(n_embd == 64);
  for (int32_t i = 0; i < n_embd; ++i)
    CHECK(std::isfinite(embedding[i]));

  REQUIRE_OK(flexq_context_rewind(context, 0, 0));
  std::vector<float> log_probs(99);
  Progress progress;
  REQUIRE_OK(flexq_context_score(context, tokens.data(), 100, log_probs.data(), record_progress,
                                 &progress));
  CHECK(progress.last == 100);
  CHECK(progress.total == 100);
  for (size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK(log_probs[i] == doctest::Approx(expected[i]).epsilon(1e-6));
  }
  CHECK(flexq_context_sequence_length(context, 0) == 0);
  CHECK(flexq_context_output_count(context) == 0);

  Progress stopping;
  stopping.stop_at_call = 2;
  CHECK_ERROR(flexq_context_score(context, tokens.data(), 100, log_probs.data(), record_progress,
                                  &stopping),
              "CANCELLED", "scoring");
  CHECK(stopping.n_calls == 2);
  CHECK(flexq_context_sequence_length(context, 0) == 0);
}

TEST_CASE("perplexity is what the scores of its windows make it") {
  constexpr int32_t kWindow = 48;
  const Model model = load_model(stories_bundle());
  const std::string text = story();
  const std::vector<int32_t> tokens = encode(model, text);
  const auto n_windows = static_cast<int32_t>(tokens.size()) / kWindow;
  REQUIRE(n_windows >= 4);

  const Context context = make_context(model);
  std::vector<double> expected;
  double total = 0;
  for (int32_t window = 0; window < n_windows; ++window) {
    float log_probs[kWindow - 1];
    REQUIRE_OK(flexq_context_score(context, tokens.data() + window * kWindow, kWindow, log_probs,
                                   nullptr, nullptr));
    double nll = 0;
    for (const float log_prob : log_probs)
      nll -= log_prob;
    expected.push_back(nll / (kWindow - 1));
    total += expected.back();
  }

  const auto evaluate = [&](int32_t max_windows, Windows* windows,
                            flexq_perplexity_result* result) {
    result->struct_size = sizeof *result;
    return flexq_evaluate_perplexity(model, text.data(), static_cast<int64_t>(text.size()), kWindow,
                                     max_windows, record_window, windows, result);
  };
  flexq_perplexity_result result = {};
  Windows windows;
  REQUIRE_OK(evaluate(0, &windows, &result));
  CHECK(result.n_windows == n_windows);
  CHECK(result.window_tokens == kWindow);
  CHECK(result.n_tokens == static_cast<int64_t>(tokens.size()));
  CHECK(result.mean_nll == doctest::Approx(total / n_windows).epsilon(1e-12));
  CHECK(result.perplexity == doctest::Approx(std::exp(total / n_windows)).epsilon(1e-12));
  REQUIRE(windows.nll.size() == expected.size());
  CHECK(windows.n_windows == n_windows);
  for (size_t i = 0; i < expected.size(); ++i)
    CHECK(windows.nll[i] == doctest::Approx(expected[i]).epsilon(1e-12));

  Windows first_two;
  REQUIRE_OK(evaluate(2, &first_two, &result));
  CHECK(result.n_windows == 2);
  CHECK(first_two.nll == std::vector<double>(windows.nll.begin(), windows.nll.begin() + 2));

  Windows stopping;
  stopping.stop_after = 3;
  flexq_perplexity_result untouched = {};
  CHECK_ERROR(evaluate(0, &stopping, &untouched), "CANCELLED", "3 of");
  CHECK(stopping.nll.size() == 3);
  CHECK(untouched.n_windows == 0);
}
