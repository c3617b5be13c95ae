// A request as those see it who wait for its answer: a queue of events, and what became of it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/answer.h"

namespace flexq {

// A TokenEvent that owns what it shows.
struct RequestEvent {
  FinishReason finish_reason = FinishReason::kNone;
  int32_t token = -1;
  int32_t position = -1;
  std::string text;
  float log_prob = 0;
  std::vector<TokenLogProb> alternatives;
};

// Times are those of base/clock.h; 0: not yet.
struct RequestStats {
  FinishReason finish_reason = FinishReason::kNone;
  int32_t n_reused_tokens = 0;
  int32_t n_generated_tokens = 0;
  int32_t n_preemptions = 0;
  int64_t submitted_ns = 0;
  int64_t placed_ns = 0;
  int64_t first_token_ns = 0;
  int64_t last_token_ns = 0;
  int64_t ended_ns = 0;
};

class Request {
 public:
  Request(std::span<const int32_t> prompt, int64_t submitted_ns)
      : prompt_(prompt.begin(), prompt.end()) {
    stats_.submitted_ns = submitted_ns;
  }

  // Any thread.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  RequestStats stats() const;
  std::span<const int32_t> prompt() const { return prompt_; }

  // One reader: the next event, or the error that ended the answer; empty when none came within
  // timeout_ms (negative: no limit). kInvalidState behind the end.
  Result<std::optional<RequestEvent>> next(int64_t timeout_ms);

  // The engine's side, one thread. The last event ends the answer, as does a failure, for which no
  // memory is needed.
  void placed(int32_t n_reused_tokens);
  void preempted();
  void push(const TokenEvent& event);
  void fail(Status status);

 private:
  void add(const TokenEvent& event);
  void end(FinishReason reason);  // with the lock
  bool has_ended() const { return stats_.ended_ns != 0; }

  const std::vector<int32_t> prompt_;
  std::atomic<bool> cancelled_{false};
  mutable std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::deque<RequestEvent> events_;
  Status failure_;
  bool end_was_read_ = false;
  RequestStats stats_;
};

}  // namespace flexq
