// One answer: prompt in, tokens and text out, step by step.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "runtime/answer.h"
#include "runtime/context.h"

namespace flexq {

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
  std::span<const int32_t> prompt_tokens() const { return answer_.prompt(); }
  std::span<const int32_t> tokens() const { return answer_.generated(); }
  const std::string& text() const { return answer_.text(); }

 private:
  enum class State { kCreated, kStarted, kRunning, kFinished };
  Generator(std::shared_ptr<Context> context, Answer answer);
  Status check_stop() const;
  // Computes the logits for the next token: the prompt at first, then the last token.
  Status advance();
  // One event: computes, draws and renders a token, or ends the answer.
  Status step(TokenEvent* event);
  Status fail(Status status);
  // Notes the end of the answer.
  void note_end();

  std::shared_ptr<Context> context_;
  Answer answer_;
  Sampler sampler_;
  State state_ = State::kCreated;
  std::atomic<bool> cancelled_{false};
  int64_t start_ns_ = 0;
  int64_t deadline_ns_ = 0;  // 0: none
  GeneratorStats stats_;
};

}  // namespace flexq
