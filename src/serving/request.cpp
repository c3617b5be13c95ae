#include "serving/request.h"

#include <chrono>

#include "base/clock.h"

namespace flexq {

RequestStats Request::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

Result<std::optional<RequestEvent>> Request::next(int64_t timeout_ms) {
  std::unique_lock lock(mutex_);
  if (end_was_read_) {
    return Status::error(StatusCode::kInvalidState,
                         "request: expected a running answer, found a finished one");
  }
  const auto ready = [this] { return !events_.empty() || has_ended(); };
  if (timeout_ms < 0) {
    changed_.wait(lock, ready);
  } else if (!changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), ready)) {
    return std::optional<RequestEvent>();
  }
  if (events_.empty()) {
    end_was_read_ = true;
    return failure_;
  }
  std::optional<RequestEvent> event(std::move(events_.front()));
  events_.pop_front();
  end_was_read_ = event->finish_reason != FinishReason::kNone;
  return event;
}

void Request::placed(int32_t n_reused_tokens) {
  const std::lock_guard lock(mutex_);
  if (stats_.placed_ns != 0) return;  // computed again after a preemption
  stats_.placed_ns = now_ns();
  stats_.n_reused_tokens = n_reused_tokens;
}

void Request::preempted() {
  const std::lock_guard lock(mutex_);
  ++stats_.n_preemptions;
}

void Request::end(FinishReason reason) {
  stats_.finish_reason = reason;
  stats_.ended_ns = now_ns();
}

// Readers are woken without the lock, which they would wait for at once.
void Request::push(const TokenEvent& event) {
  add(event);
  changed_.notify_one();
}

void Request::add(const TokenEvent& event) {
  const std::lock_guard lock(mutex_);
  events_.push_back({event.finish_reason,
                     event.token,
                     event.position,
                     std::string(event.text),
                     event.log_prob,
                     {event.alternatives.begin(), event.alternatives.end()}});
  if (event.finish_reason != FinishReason::kNone) {
    end(event.finish_reason);
  } else {
    stats_.last_token_ns = now_ns();
    if (stats_.first_token_ns == 0) stats_.first_token_ns = stats_.last_token_ns;
    ++stats_.n_generated_tokens;
  }
}

void Request::fail(Status status) {
  const std::lock_guard lock(mutex_);
  end(finish_reason_of(status.code()));
  failure_ = std::move(status);
  changed_.notify_one();
}

}  // namespace flexq
