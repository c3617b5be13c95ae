// What belongs to one answer wherever it is computed, alone or among others: the prompt, the tokens
// drawn so far, their text, and the rules that end it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/context.h"
#include "runtime/json_constraint.h"
#include "runtime/sampler.h"
#include "text/token_stream.h"

namespace flexq {

// What an answer must be: the names of flexq_generator_options_set_format.
enum class AnswerFormat : int32_t { kText, kJson };

struct GeneratorOptions {
  int32_t sequence = 0;      // of a generator
  int32_t priority = 0;      // of a request to an engine
  int32_t max_tokens = 256;  // 0: until the context is full
  SamplingParams sampling;   // greedy
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_tokens;  // end the answer as the model's own end tokens do
  bool ignore_end = false;           // neither end tokens nor stop tokens end it
  int64_t deadline_ms = 0;           // 0: none
  int32_t n_alternatives = 0;        // log-probabilities per token
  AnswerFormat format = AnswerFormat::kText;
};

// The numbers of FLEXQ_FINISH_*.
enum class FinishReason : int32_t {
  kNone = 0,
  kStop = 1,
  kLength = 2,
  kCancelled = 3,
  kDeadline = 4,
  kError = 5,
};

// How an answer that a failure ended is called.
FinishReason finish_reason_of(StatusCode code);

// Views are valid until the next call on what gave it.
struct TokenEvent {
  FinishReason finish_reason = FinishReason::kNone;
  int32_t token = -1;
  int32_t position = -1;
  std::string_view text;
  float log_prob = 0;
  std::span<const TokenLogProb> alternatives;
};

// One thread at a time.
class Answer {
 public:
  // shape: of the context that computes it. Errors of StopMatcher::create().
  static Result<Answer> create(std::shared_ptr<const LoadedModel> model, const ExecutorShape& shape,
                               GeneratorOptions options);

  // history: what the sequence holds before the prompt. kInvalidArgument, kContextFull; errors of
  // JsonConstraint::create().
  Status start(std::span<const int32_t> history, std::span<const int32_t> prompt);

  // Whether the device can draw the next token without the host.
  bool sampled_by_device(const Context& context) const {
    return options_.n_alternatives == 0 && !json_ && context.can_sample(options_.sampling);
  }
  // Draws the next token from an output row of the context's last decode: where the logits lie, if
  // that device and the options allow it, else with `sampler`. history: all tokens of the sequence.
  Result<SampledToken> draw(Context& context, int32_t row, std::span<const int32_t> history,
                            Sampler& sampler);
  // Makes the event of a token that was drawn for `position`, the last one where it ends the
  // answer.
  Status take(const SampledToken& sampled, int32_t position, TokenEvent* event);
  // What ends the answer without another token, if something does: a stop string, the closing brace
  // or the length.
  FinishReason pending() const { return pending_; }
  // Takes back the tokens behind the first n_tokens; not their text.
  void truncate(size_t n_tokens) { generated_.resize(n_tokens); }
  // Ends the answer. The text that was held back is added to it and returned in the event.
  TokenEvent finish(FinishReason reason);
  // The same after a failure. Held-back text that finds no memory is lost; the error counts.
  void fail(StatusCode code);

  FinishReason finish_reason() const { return finish_reason_; }
  const GeneratorOptions& options() const { return options_; }
  std::span<const int32_t> prompt() const { return prompt_; }
  std::span<const int32_t> generated() const { return generated_; }
  const std::string& text() const { return text_; }

 private:
  Answer() = default;
  bool ends_answer(int32_t token) const;
  Status check_prompt(std::span<const int32_t> history, std::span<const int32_t> prompt) const;

  std::shared_ptr<const LoadedModel> model_;
  GeneratorOptions options_;
  int32_t context_tokens_ = 0;
  int32_t n_vocab_ = 0;
  std::vector<int32_t> prompt_;
  std::vector<int32_t> generated_;
  std::string text_;
  std::optional<TokenStream> stream_;
  std::optional<JsonConstraint> json_;          // of AnswerFormat::kJson, once started
  FinishReason pending_ = FinishReason::kNone;  // becomes the next event
  FinishReason finish_reason_ = FinishReason::kNone;
  std::vector<TokenLogProb> alternatives_;
};

}  // namespace flexq
