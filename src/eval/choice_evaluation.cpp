#include "eval/choice_evaluation.h"

#include <algorithm>
#include <string>

namespace flexq {
namespace {

// As for perplexity: few enough for the memory of a large vocabulary's logits.
constexpr int32_t kLogitRows = 64;

// Room for that many tokens, as a context of the default length has: for most tasks enough for all
// of a batch, and never more memory than an ordinary context takes.
constexpr int32_t kCacheTokens = kDefaultContextTokens;

constexpr char kWhiteSpace[] = " \t\n\v\f\r";

// All continuations of the questions, one question after the other.
Result<std::vector<Continuation>> encode_questions(const Tokenizer& tokenizer,
                                                   std::span<const Question> questions,
                                                   int32_t window_tokens) {
  std::vector<Continuation> list;
  for (size_t i = 0; i < questions.size(); ++i) {
    for (const Choice& choice : questions[i].choices) {
      Result<Continuation> encoded = encode_choice(tokenizer, choice, window_tokens);
      if (!encoded.ok())
        return std::move(encoded).status().with_context("question " + std::to_string(i));
      list.push_back(std::move(encoded).value());
    }
  }
  return list;
}

ContextOptions scoring_options(ContextOptions options, std::span<const Continuation> list,
                               int32_t batch, int32_t trained_tokens) {
  size_t longest = 2;
  for (const Continuation& text : list)
    longest = std::max(longest, text.tokens.size());
  options.context_tokens = std::min(static_cast<int32_t>(longest) - 1, trained_tokens);
  options.n_sequences =
      static_cast<int32_t>(std::min<size_t>(static_cast<size_t>(batch), list.size()));
  options.cache_tokens = std::max(kCacheTokens, options.context_tokens);
  options.n_outputs = kLogitRows;
  return options;
}

// The first of the largest.
template <typename Value>
int32_t best_choice(const Question& question, Value value) {
  int32_t best = 0;
  for (int32_t i = 1; i < static_cast<int32_t>(question.choices.size()); ++i) {
    if (value(i) > value(best)) best = i;
  }
  return best;
}

QuestionResult judge(const Question& question, std::span<const double> scores) {
  QuestionResult result;
  result.answer = question.answer;
  result.scores = scores;
  const auto score = [&](int32_t i) { return scores[static_cast<size_t>(i)]; };
  result.best = best_choice(question, score);
  result.best_norm = best_choice(question, [&](int32_t i) {
    return score(i) / question.choices[static_cast<size_t>(i)].n_characters;
  });
  return result;
}

}  // namespace

Result<Continuation> encode_choice(const Tokenizer& tokenizer, const Choice& choice,
                                   int32_t window_tokens) {
  const std::string text = choice.context + choice.continuation;
  const size_t context_bytes = choice.context.find_last_not_of(kWhiteSpace) + 1;
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> context,
                         tokenizer.encode(std::string_view(text).substr(0, context_bytes)));
  Continuation result;
  std::vector<int32_t>& tokens = result.tokens;
  FLEXQ_ASSIGN_OR_RETURN(tokens, tokenizer.encode(text));
  // A tokenizer may merge the end of the context with all of the continuation.
  size_t n_scored = tokens.size() > context.size() ? tokens.size() - context.size() : 1;
  if (n_scored >= tokens.size()) {
    const int32_t first = tokenizer.bos_id() >= 0 ? tokenizer.bos_id() : tokenizer.eos_id();
    if (first < 0 || tokens.empty()) {
      return Status::error(StatusCode::kInvalidArgument,
                           "choice: expected a token and one in front of it, found %zu tokens and "
                           "a tokenizer %s BOS or EOS",
                           tokens.size(), first < 0 ? "without" : "with");
    }
    tokens.insert(tokens.begin(), first);
  }
  const auto most_tokens = static_cast<size_t>(window_tokens) + 1;
  if (tokens.size() > most_tokens) {
    tokens.erase(tokens.begin(), tokens.end() - static_cast<std::ptrdiff_t>(most_tokens));
    n_scored = std::min(n_scored, most_tokens - 1);
  }
  result.n_scored = static_cast<int32_t>(n_scored);
  return result;
}

Result<ChoiceResult> evaluate_choices(std::shared_ptr<const LoadedModel> model,
                                      std::span<const Question> questions, int32_t batch,
                                      FunctionRef<bool(int64_t, int64_t)> progress,
                                      FunctionRef<bool(const QuestionResult&)> after_question,
                                      ContextOptions options) {
  if (model->tokenizer == nullptr)
    return Status::error(StatusCode::kNotFound, "choices: the model has no tokenizer");
  if (batch < 1 || batch > kMaxSequences) {
    return Status::error(StatusCode::kInvalidArgument, "batch: expected 1 to %d, found %d",
                         kMaxSequences, batch);
  }
  ChoiceResult result;
  result.n_questions = static_cast<int32_t>(questions.size());
  if (questions.empty()) return result;
  const int32_t trained = model->llama->config().context_tokens;
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<Continuation> list,
                         encode_questions(*model->tokenizer, questions, trained));
  FLEXQ_ASSIGN_OR_RETURN(
      const std::shared_ptr<Context> context,
      Context::create(std::move(model), scoring_options(options, list, batch, trained)));
  std::vector<double> scores(list.size());
  size_t next = 0;        // question
  size_t next_score = 0;  // its first
  const auto after_pass = [&](size_t n_scored) {
    while (next < questions.size() && next_score + questions[next].choices.size() <= n_scored) {
      const Question& question = questions[next];
      QuestionResult judged =
          judge(question, std::span(scores).subspan(next_score, question.choices.size()));
      judged.question = static_cast<int32_t>(next);
      if (judged.best == judged.answer) ++result.n_correct;
      if (judged.best_norm == judged.answer) ++result.n_correct_norm;
      next_score += question.choices.size();
      ++next;
      if (after_question(judged)) return true;
    }
    return false;
  };
  FLEXQ_RETURN_IF_ERROR(score_continuations(*context, list, scores.data(), progress, after_pass));
  return result;
}

}  // namespace flexq
