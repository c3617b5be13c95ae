// How choices become tokens, and how their scores become accuracies, on a small synthetic model.
#include "eval/choice_evaluation.h"

#include <doctest/doctest.h>

#include <numeric>

#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr auto kGoOn = [](int64_t, int64_t) { return false; };
constexpr auto kNext = [](const QuestionResult&) { return false; };

std::shared_ptr<const LoadedModel> small_model(const TemporaryDirectory& directory) {
  write_synthetic_checkpoint(directory.path(), {});
  return open_test_model(directory.path(), "auto", 2);
}

std::vector<Question> some_questions() {
  std::vector<Question> questions;
  for (int32_t i = 0; i < 9; ++i) {
    const std::string context = "the hen number " + std::to_string(i) + " sat on";
    Question question;
    for (const char* text : {"the mat", "a rat that sat", "the hen"})
      question.choices.push_back(
          {context, " " + std::string(text), static_cast<int32_t>(std::string(text).size())});
    question.choices.resize(static_cast<size_t>(2 + i % 2));
    question.answer = i % 2;
    questions.push_back(question);
  }
  return questions;
}

struct Judged {
  std::vector<std::vector<double>> scores;
  std::vector<int32_t> best;
  std::vector<int32_t> best_norm;
  ChoiceResult result;
  bool operator==(const Judged& other) const {
    return scores == other.scores && best == other.best && best_norm == other.best_norm;
  }
};

Judged judge_all(const std::shared_ptr<const LoadedModel>& model,
                 std::span<const Question> questions, int32_t batch, ContextOptions options = {}) {
  Judged judged;
  judged.result = value_of(evaluate_choices(
      model, questions, batch, kGoOn,
      [&](const QuestionResult& result) {
        CHECK(result.question == static_cast<int32_t>(judged.best.size()));
        CHECK(result.answer == questions[judged.best.size()].answer);
        judged.scores.emplace_back(result.scores.begin(), result.scores.end());
        judged.best.push_back(result.best);
        judged.best_norm.push_back(result.best_norm);
        return false;
      },
      options));
  return judged;
}

}  // namespace

TEST_CASE("the tokens of a choice") {
  const TemporaryDirectory directory;
  const auto model = small_model(directory);
  const Tokenizer& tokenizer = *model->tokenizer;
  const auto encode = [&](const std::string& text) { return value_of(tokenizer.encode(text)); };
  const auto check = [&](const Choice& choice, const std::string& context) {
    CAPTURE(choice.context);
    const std::vector<int32_t> whole = encode(choice.context + choice.continuation);
    const Continuation found = value_of(encode_choice(tokenizer, choice, 128));
    CHECK(found.tokens == whole);
    CHECK(found.n_scored == static_cast<int32_t>(whole.size() - encode(context).size()));
  };
  check({"the hen", " sat", 3}, "the hen");
  // White space at the end belongs to the continuation.
  check({"the hen ", " sat", 3}, "the hen");
  check({"the hen \n\t ", " sat", 3}, "the hen");
  check({"", " sat", 3}, "");
  check({"  ", " sat", 3}, "");

  SUBCASE("cut on the left to the window") {
    const std::vector<int32_t> whole = encode("the hen sat on the mat");
    const auto n_whole = static_cast<int32_t>(whole.size());
    const auto n_scored = static_cast<int32_t>(whole.size() - encode("the hen sat on").size());
    REQUIRE(n_scored >= 2);
    for (int32_t window = 1; window < n_whole + 2; ++window) {
      const Continuation found =
          value_of(encode_choice(tokenizer, {"the hen sat on", " the mat", 7}, window));
      // The last token is not computed: one more than the window has room.
      const auto kept = static_cast<size_t>(std::min(window + 1, n_whole));
      CHECK(found.tokens ==
            std::vector<int32_t>(whole.end() - static_cast<std::ptrdiff_t>(kept), whole.end()));
      CHECK(found.n_scored == std::min(n_scored, window));
    }
  }
  SUBCASE("a token in front where the tokenizer puts none") {
    TokenizerData data = tokenizer.data();
    data.add_bos = false;
    const auto bare = value_of(Tokenizer::create(data));
    const std::vector<int32_t> plain = value_of(bare->encode(" sat"));
    const Continuation found = value_of(encode_choice(*bare, {"", " sat", 3}, 128));
    REQUIRE(found.tokens.size() == plain.size() + 1);
    CHECK(found.tokens.front() == data.bos_id);
    CHECK(std::equal(plain.begin(), plain.end(), found.tokens.begin() + 1));
    CHECK(found.n_scored == static_cast<int32_t>(plain.size()));
    data.bos_id = -1;
    CHECK(value_of(encode_choice(*value_of(Tokenizer::create(data)), {"", " sat", 3}, 128))
              .tokens.front() == data.eos_id);
    data.eos_id = -1;
    CHECK(encode_choice(*value_of(Tokenizer::create(data)), {"", " sat", 3}, 128).status().code() ==
          StatusCode::kInvalidArgument);
  }
}

TEST_CASE("choices are scored one by one, judged, and counted") {
  const TemporaryDirectory directory;
  const auto model = small_model(directory);
  const std::vector<Question> questions = some_questions();
  const Judged judged = judge_all(model, questions, 64);
  REQUIRE(judged.best.size() == questions.size());
  const auto context = value_of(Context::create(model, {}));
  int32_t n_correct = 0;
  int32_t n_correct_norm = 0;
  for (size_t i = 0; i < questions.size(); ++i) {
    CAPTURE(i);
    std::vector<double> scores;
    size_t best = 0;
    size_t best_norm = 0;
    for (const Choice& choice : questions[i].choices) {
      const Continuation text = value_of(encode_choice(*model->tokenizer, choice, 128));
      std::vector<float> log_probs(text.tokens.size() - 1);
      require_ok(context->score(text.tokens, log_probs.data(), kGoOn));
      scores.push_back(std::accumulate(log_probs.end() - text.n_scored, log_probs.end(), 0.0));
      const size_t last = scores.size() - 1;
      if (scores[last] > scores[best]) best = last;
      if (scores[last] / choice.n_characters >
          scores[best_norm] / questions[i].choices[best_norm].n_characters)
        best_norm = last;
    }
    CHECK(judged.scores[i] == scores);
    CHECK(judged.best[i] == static_cast<int32_t>(best));
    CHECK(judged.best_norm[i] == static_cast<int32_t>(best_norm));
    if (judged.best[i] == questions[i].answer) ++n_correct;
    if (judged.best_norm[i] == questions[i].answer) ++n_correct_norm;
  }
  CHECK(judged.result.n_questions == static_cast<int32_t>(questions.size()));
  CHECK(judged.result.n_correct == n_correct);
  CHECK(judged.result.n_correct_norm == n_correct_norm);
  // The longer choice is less probable, but not per character.
  CHECK(judged.best != judged.best_norm);

  ContextOptions options;
  options.chunk_tokens = 7;
  options.poison_workspace = true;
  for (const int32_t batch : {1, 2, 3, 5})
    CHECK(judge_all(model, questions, batch, options) == judged);
  CHECK(judge_all(model, {}, 4).result.n_questions == 0);
}

TEST_CASE("equal scores: the first choice is the answer given") {
  const TemporaryDirectory directory;
  const auto model = small_model(directory);
  Question question;
  for (int i = 0; i < 3; ++i)
    question.choices.push_back({"the hen", " sat", 3});
  const Judged judged = judge_all(model, {&question, 1}, 2);
  CHECK(judged.best == std::vector<int32_t>{0});
  CHECK(judged.best_norm == std::vector<int32_t>{0});
}

TEST_CASE("questions longer than the window, and what evaluate_choices refuses") {
  const TemporaryDirectory directory;
  const auto model = small_model(directory);
  std::vector<Question> questions = some_questions();
  std::string passage;
  for (int i = 0; i < 60; ++i)
    passage += "the rat sat on mat " + std::to_string(i) + ". ";
  for (Choice& choice : questions[4].choices)
    choice.context = passage + choice.context;
  const Judged judged = judge_all(model, questions, 4);
  CHECK(judged.best.size() == questions.size());
  CHECK(judge_all(model, questions, 64) == judged);

  for (const int32_t batch : {0, -1, kMaxSequences + 1}) {
    CHECK(evaluate_choices(model, questions, batch, kGoOn, kNext).status().code() ==
          StatusCode::kInvalidArgument);
  }
  int32_t n_answered = 0;
  CHECK(evaluate_choices(model, questions, 4, kGoOn,
                         [&](const QuestionResult&) { return ++n_answered == 3; })
            .status()
            .code() == StatusCode::kCancelled);
  CHECK(n_answered == 3);
  CHECK(evaluate_choices(
            model, questions, 4, [](int64_t, int64_t) { return true; }, kNext)
            .status()
            .code() == StatusCode::kCancelled);
  const TemporaryDirectory mute;
  SyntheticOptions synthetic;
  synthetic.with_tokenizer = false;
  write_synthetic_checkpoint(mute.path(), synthetic);
  CHECK(
      evaluate_choices(open_test_model(mute.path()), questions, 4, kGoOn, kNext).status().code() ==
      StatusCode::kNotFound);
}

}  // namespace flexq::test
