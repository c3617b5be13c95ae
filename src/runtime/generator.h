// One answer: prompt in, tokens and text out, step by step.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/context.h"
#include "runtime/sampler.h"
#include "text/token_stream.h"

namespace flexq {

struct GeneratorOptions {
  int32_t sequence = 0;
  int32_t max_tokens = 256;  // 0: until the context is full
  SamplingParams sampling;   // greedy
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_tokens;  // end the answer as the model's own end tokens do
  bool ignore_end = false;           // neither end tokens nor stop tokens end it
  int64_t deadline_ms = 0;           // 0: none
  int32_t n_alternatives = 0;        // log-probabilities per token
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

// Views are valid until the next call on the generator.
struct TokenEvent {
  FinishReason finish_reason = FinishReason::kNone;
  int32_t token = -1;
  int32_t position = -1;
  std::string_view text;
  float log_prob = 0;
  std::span<const TokenLogProb> alternatives;
};

struct GeneratorStats {
  FinishReason finish_reason = FinishReason::kNone;
  int64_t prefill_ns = 0;
  int64_t decode_ns = 0;
  int64_t time_to_first_token_ns = 0;
};

// One thread at a time, except cancel().
class Generator {
 public:
  static Result<std::unique_ptr<Generator>> create(std::shared_ptr<Context> context,
                                                   GeneratorOptions options);

  Status start_text(std::string_view prompt, const EncodeOptions& encode);
  Status start_tokens(std::span<const int32_t> tokens);
  Result<TokenEvent> next();
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  // Ends the answer from outside, as the caller's callback asked.
  void stop_by_callback();

  Context& context() const { return *context_; }
  const GeneratorStats& stats() const { return stats_; }
  std::span<const int32_t> prompt_tokens() const { return prompt_; }
  std::span<const int32_t> tokens() const { return generated_; }
  const std::string& text() const { return text_; }

 private:
  enum class State { kCreated, kStarted, kRunning, kFinished };
  Generator() = default;
  Status check_stop() const;
  bool ends_answer(int32_t token) const;
  // Computes the logits for the next token: the prompt at first, then the last token.
  Status advance();
  // Draws a token from the logits: where they lie, if that device and the options allow it.
  Result<SampledToken> sample(std::span<const int32_t> history, int32_t position);
  // One event: computes, draws and renders a token, or ends the answer.
  Status step(TokenEvent* event);
  // Ends the answer; the text that was held back is added to it and returned.
  std::string_view end(FinishReason reason);
  Status fail(Status status);
  TokenEvent finish(FinishReason reason);

  std::shared_ptr<Context> context_;
  GeneratorOptions options_;
  State state_ = State::kCreated;
  std::atomic<bool> cancelled_{false};
  int64_t start_ns_ = 0;
  int64_t deadline_ns_ = 0;  // 0: none
  std::vector<int32_t> prompt_;
  std::vector<int32_t> generated_;
  std::string text_;
  std::optional<TokenStream> stream_;
  FinishReason pending_ = FinishReason::kNone;  // becomes the next event
  Sampler sampler_;
  std::vector<TokenLogProb> alternatives_;
  GeneratorStats stats_;
};

}  // namespace flexq
