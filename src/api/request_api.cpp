#include <algorithm>

#include "api/handles.h"
#include "base/clock.h"

using flexq::Status;
using flexq::StatusCode;
using flexq::api::guarded;
using flexq::api::Held;

namespace {

// Marks a request as being read for the scope; ok() is false when another thread reads it.
class RequestUse {
 public:
  explicit RequestUse(flexq_request& request)
      : request_(request), ok_(!request.being_read.exchange(true, std::memory_order_acquire)) {}
  ~RequestUse() {
    if (ok_) request_.being_read.store(false, std::memory_order_release);
  }
  RequestUse(const RequestUse&) = delete;
  RequestUse& operator=(const RequestUse&) = delete;
  Status status() const {
    if (ok_) return Status();
    return Status::error(StatusCode::kInvalidState,
                         "request: expected one reader at a time, found another call in progress");
  }

 private:
  flexq_request& request_;
  bool ok_;
};

double tokens_per_second(const flexq::RequestStats& stats) {
  const int64_t time_ns = stats.last_token_ns - stats.first_token_ns;
  return stats.n_generated_tokens < 2 || time_ns <= 0
             ? 0
             : (stats.n_generated_tokens - 1) * 1e9 / static_cast<double>(time_ns);
}

}  // namespace

extern "C" {

flexq_status flexq_request_next(flexq_request* request, int64_t timeout_ms,
                                flexq_token_event* event) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(request);
    FLEXQ_RETURN_IF_ERROR(flexq::api::check_info(event));
    constexpr int64_t kYear = int64_t{366} * 24 * 3600 * 1000;  // no clock overflows
    const Held held(request);
    const RequestUse use(*held);
    FLEXQ_RETURN_IF_ERROR(use.status());
    FLEXQ_ASSIGN_OR_RETURN(std::optional<flexq::RequestEvent> next,
                           held->request->next(std::min(timeout_ms, kYear)));
    held->event = next ? std::move(*next) : flexq::RequestEvent();
    const flexq::RequestEvent& kept = held->event;
    flexq_token_event shown = {};
    flexq::api::show_event({kept.finish_reason, kept.token, kept.position, kept.text, kept.log_prob,
                            kept.alternatives},
                           held->alternatives, &shown);
    return flexq::api::fill_info(shown, event);
  });
}

void flexq_request_cancel(flexq_request* request) {
  const Held held(request);
  if (held) held->request->cancel();
}

void flexq_request_release(flexq_request* request) {
  flexq_request_cancel(request);
  flexq::api::drop_reference(request);
}

flexq_status flexq_request_get_stats(const flexq_request* request, flexq_request_stats* stats) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(request);
    const Held held(request);
    const flexq::RequestStats found = held->request->stats();
    const int64_t end_ns = found.ended_ns != 0 ? found.ended_ns : flexq::now_ns();
    const int64_t placed_ns = found.placed_ns != 0 ? found.placed_ns : end_ns;
    flexq_request_stats filled = {};
    filled.finish_reason = static_cast<int32_t>(found.finish_reason);
    filled.n_prompt_tokens = static_cast<int32_t>(held->request->prompt().size());
    filled.n_reused_tokens = found.n_reused_tokens;
    filled.n_generated_tokens = found.n_generated_tokens;
    filled.n_preemptions = found.n_preemptions;
    filled.queued_ns = placed_ns - found.submitted_ns;
    if (found.first_token_ns != 0)
      filled.time_to_first_token_ns = found.first_token_ns - found.submitted_ns;
    filled.total_ns = end_ns - found.submitted_ns;
    filled.tokens_per_second = tokens_per_second(found);
    return flexq::api::fill_info(filled, stats);
  });
}

flexq_status flexq_request_prompt_tokens(const flexq_request* request, int32_t* tokens,
                                         int32_t capacity, int32_t* n_tokens) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(request);
    const Held held(request);
    const std::span<const int32_t> prompt = held->request->prompt();
    return flexq::api::fill_buffer(prompt.data(), static_cast<int32_t>(prompt.size()), tokens,
                                   capacity, n_tokens, "token buffer");
  });
}

}  // extern "C"
