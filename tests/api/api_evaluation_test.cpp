// Scores, perplexity, choices and comparisons against what the logits and each other say.
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
    return flexq_evaluate_perplexity(model, nullptr, text.data(), static_cast<int64_t>(text.size()),
                                     kWindow, max_windows, record_window, windows, result);
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

TEST_CASE("scores of continuations are sums of the scores of their tokens") {
  const Model model = load_model(stories_bundle());
  const std::vector<int32_t> prompt = encode(model, "Once upon a time, there was a little girl");
  std::vector<std::vector<int32_t>> endings;
  for (const char* text : {" named Lily.", " who liked to play.", " tractor"}) {
    Tokenizer tokenizer;
    REQUIRE_OK(flexq_model_tokenizer(model, tokenizer.out()));
    std::vector<int32_t> tokens(32);
    int32_t n = 0;
    REQUIRE_OK(flexq_tokenizer_encode(tokenizer, text,
                                      static_cast<int64_t>(std::string(text).size()),
                                      FLEXQ_ENCODE_PLAIN, tokens.data(), 32, &n));
    tokens.resize(static_cast<size_t>(n));
    endings.push_back(tokens);
  }
  Continuations list;
  REQUIRE_OK(flexq_continuations_create(list.out()));
  const auto add_all = [&] {
    for (const std::vector<int32_t>& ending : endings) {
      REQUIRE_OK(flexq_continuations_add(list, prompt.data(), static_cast<int32_t>(prompt.size()),
                                         ending.data(), static_cast<int32_t>(ending.size())));
    }
  };
  add_all();
  const Context context = make_context(model, [](flexq_context_options* options) {
    REQUIRE_OK(flexq_context_options_set_sequences(options, 3));
  });
  std::vector<double> scores(3);
  Progress progress;
  REQUIRE_OK(
      flexq_context_score_continuations(context, list, scores.data(), record_progress, &progress));
  CHECK(progress.last == progress.total);
  flexq_context_counters counters = {};
  counters.struct_size = sizeof counters;
  REQUIRE_OK(flexq_context_get_counters(context, &counters));
  CHECK(counters.tokens_computed == progress.total);
  CHECK(counters.pages_used == 0);

  for (size_t i = 0; i < endings.size(); ++i) {
    CAPTURE(i);
    std::vector<int32_t> tokens = prompt;
    tokens.insert(tokens.end(), endings[i].begin(), endings[i].end());
    std::vector<float> log_probs(tokens.size() - 1);
    REQUIRE_OK(flexq_context_score(context, tokens.data(), static_cast<int32_t>(tokens.size()),
                                   log_probs.data(), nullptr, nullptr));
    double expected = 0;
    for (size_t j = prompt.size() - 1; j < log_probs.size(); ++j)
      expected += log_probs[j];
    CHECK(scores[i] == expected);
  }
  CHECK(scores[0] > scores[2]);

  Progress stopping;
  stopping.stop_at_call = 1;
  std::vector<double> untouched(3, 7.0);
  CHECK_ERROR(flexq_context_score_continuations(context, list, untouched.data(), record_progress,
                                                &stopping),
              "CANCELLED", "scoring");
  CHECK(untouched == std::vector<double>(3, 7.0));
  CHECK(flexq_context_sequence_length(context, 0) == 0);
  REQUIRE_OK(flexq_continuations_clear(list));
  add_all();
  std::vector<double> again(3);
  REQUIRE_OK(flexq_context_score_continuations(context, list, again.data(), nullptr, nullptr));
  CHECK(again == scores);
}

namespace {

struct Answers {
  std::vector<int32_t> best;
  std::vector<int32_t> best_norm;
  std::vector<std::vector<double>> scores;
  int64_t n_tokens = 0;
  int32_t n_correct = 0;
  int32_t n_correct_norm = 0;
  int32_t n_questions = 0;
  int32_t stop_after = INT32_MAX;
};

int32_t record_answer(const flexq_question_result* question, void* user_data) {
  auto* answers = static_cast<Answers*>(user_data);
  CHECK(question->struct_size == sizeof *question);
  CHECK(question->question == static_cast<int32_t>(answers->best.size()));
  answers->n_questions = question->n_questions;
  answers->best.push_back(question->best);
  answers->best_norm.push_back(question->best_norm);
  answers->scores.emplace_back(question->scores, question->scores + question->n_choices);
  answers->n_correct += question->best == question->answer ? 1 : 0;
  answers->n_correct_norm += question->best_norm == question->answer ? 1 : 0;
  return static_cast<int32_t>(answers->best.size()) >= answers->stop_after ? 1 : 0;
}

int32_t record_tokens(int64_t done, int64_t total, void* user_data) {
  auto* answers = static_cast<Answers*>(user_data);
  CHECK(done > answers->n_tokens);
  CHECK(done <= total);
  answers->n_tokens = done;
  return 0;
}

}  // namespace

TEST_CASE("choices of every task: the same for every batch size, and counted") {
  const Model model = load_model(stories_bundle());
  for (const std::string task : {"piqa", "arc", "boolq", "winogrande", "hellaswag"}) {
    CAPTURE(task);
    const std::string file = task + (task == "hellaswag" ? ".txt" : ".jsonl");
    Questions questions;
    REQUIRE_OK(flexq_questions_open(task.c_str(), source_path("tests/data/choice/" + file).c_str(),
                                    questions.out()));
    const int32_t n_questions = flexq_questions_count(questions);
    CHECK(n_questions == 4);
    const auto evaluate = [&](int32_t batch, int32_t limit, Answers* answers,
                              flexq_choice_result* result) {
      *result = {};
      result->struct_size = sizeof *result;
      return flexq_evaluate_choices(model, nullptr, questions, batch, limit, record_tokens,
                                    record_answer, answers, result);
    };
    Answers answers;
    flexq_choice_result result;
    REQUIRE_OK(evaluate(0, 0, &answers, &result));
    CHECK(result.n_questions == n_questions);
    CHECK(answers.n_questions == n_questions);
    CHECK(result.n_correct == answers.n_correct);
    CHECK(result.n_correct_norm == answers.n_correct_norm);
    CHECK(result.accuracy == doctest::Approx(answers.n_correct / 4.0));
    CHECK(result.accuracy_norm == doctest::Approx(answers.n_correct_norm / 4.0));
    for (const int32_t batch : {1, 3}) {
      Answers others;
      REQUIRE_OK(evaluate(batch, 0, &others, &result));
      CHECK(others.scores == answers.scores);
      CHECK(others.best == answers.best);
      CHECK(others.best_norm == answers.best_norm);
    }
    Answers first_two;
    REQUIRE_OK(evaluate(0, 2, &first_two, &result));
    CHECK(result.n_questions == 2);
    CHECK(first_two.n_questions == 2);
    CHECK(first_two.scores ==
          std::vector<std::vector<double>>(answers.scores.begin(), answers.scores.begin() + 2));
    Answers stopping;
    stopping.stop_after = 2;
    CHECK_ERROR(evaluate(1, 0, &stopping, &result), "CANCELLED", "cancelled");
    CHECK(stopping.best.size() == 2);
    CHECK(result.n_questions == 0);
  }
}

TEST_CASE("a comparison has the perplexities of its two models") {
  const Model a = load_model(stories_checkpoint());
  const Model b = load_model(stories_bundle());
  const std::string text = story();
  const auto perplexity = [&](const flexq_model* model) {
    flexq_perplexity_result result = {};
    result.struct_size = sizeof result;
    REQUIRE_OK(flexq_evaluate_perplexity(model, nullptr, text.data(),
                                         static_cast<int64_t>(text.size()), 48, 0, nullptr, nullptr,
                                         &result));
    return result;
  };
  const flexq_perplexity_result of_a = perplexity(a);
  const flexq_perplexity_result of_b = perplexity(b);
  flexq_comparison_result result = {};
  result.struct_size = sizeof result;
  Progress progress;
  REQUIRE_OK(flexq_evaluate_comparison(a, b, nullptr, text.data(),
                                       static_cast<int64_t>(text.size()), 48, 0, record_progress,
                                       &progress, &result));
  CHECK(result.n_windows == of_a.n_windows);
  CHECK(result.window_tokens == 48);
  CHECK(result.n_tokens == of_a.n_tokens);
  CHECK(result.n_positions == of_a.n_windows * 47);
  CHECK(progress.last == result.n_positions);
  CHECK(progress.total == result.n_positions);
  CHECK(result.mean_nll_a == doctest::Approx(of_a.mean_nll).epsilon(1e-6));
  CHECK(result.mean_nll_b == doctest::Approx(of_b.mean_nll).epsilon(1e-6));
  CHECK(result.perplexity_a == doctest::Approx(of_a.perplexity).epsilon(1e-6));
  CHECK(result.perplexity_b == doctest::Approx(of_b.perplexity).epsilon(1e-6));
  CHECK(result.mean_kl > 0);
  CHECK(result.mean_kl < 0.5);
  CHECK(result.n_same_top1 < result.n_positions);
  CHECK(result.n_same_top1 > result.n_positions / 2);
  CHECK(result.n_lost + result.n_gained <= result.n_positions - result.n_same_top1);

  Progress stopping;
  stopping.stop_at_call = 2;
  flexq_comparison_result untouched = {};
  untouched.struct_size = sizeof untouched;
  CHECK_ERROR(
      flexq_evaluate_comparison(a, b, nullptr, text.data(), static_cast<int64_t>(text.size()), 48,
                                0, record_progress, &stopping, &untouched),
      "CANCELLED", "positions");
  CHECK(untouched.n_windows == 0);
}
