// Accuracy on questions with several choices, scored as in the lm-evaluation-harness.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/status.h"
#include "base/thread_pool.h"
#include "eval/choice_tasks.h"
#include "eval/continuation_scores.h"
#include "runtime/context.h"
#include "runtime/loaded_model.h"

namespace flexq {

// Continuations scored side by side unless somebody asks for another number.
inline constexpr int32_t kDefaultBatch = 64;

struct QuestionResult {
  int32_t question = 0;
  int32_t answer = 0;              // the right choice
  int32_t best = 0;                // of the highest score, the first among equals
  int32_t best_norm = 0;           // of the highest score per character
  std::span<const double> scores;  // (choices) ln p of each continuation
};

struct ChoiceResult {
  int32_t n_questions = 0;
  int32_t n_correct = 0;
  int32_t n_correct_norm = 0;
};

// The tokens of a choice. White space at the end of the context belongs to the continuation;
// context and continuation are encoded as one text, and what is longer than the encoded context
// alone is the continuation, at least one token. Where there is nothing in front of it, BOS or EOS
// is put there. Cut on the left so that all tokens but the last fit the window. Errors:
// kInvalidArgument (nothing to put in front).
Result<Continuation> encode_choice(const Tokenizer& tokenizer, const Choice& choice,
                                   int32_t window_tokens);

// Scores the questions, `batch` continuations side by side, and counts right answers. Of `options`
// only the KV cache's type, the chunk size and the poison count. progress(done, total) counts
// tokens; after_question comes once for every question, in their order. Both cancel by returning
// true.
Result<ChoiceResult> evaluate_choices(std::shared_ptr<const LoadedModel> model,
                                      std::span<const Question> questions, int32_t batch,
                                      FunctionRef<bool(int64_t done, int64_t total)> progress,
                                      FunctionRef<bool(const QuestionResult&)> after_question,
                                      ContextOptions options = {});

}  // namespace flexq
