// Lists of continuations, and their scores on a context.
#include <algorithm>

#include "api/handles.h"

using flexq::Status;
using flexq::api::EnteredContext;
using flexq::api::guarded;
using flexq::api::Held;

extern "C" {

flexq_status flexq_continuations_create(flexq_continuations** continuations) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(continuations);
    *continuations = new flexq_continuations;
    return Status();
  });
}

void flexq_continuations_release(flexq_continuations* continuations) {
  flexq::api::drop_reference(continuations);
}

flexq_status flexq_continuations_clear(flexq_continuations* continuations) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(continuations);
    continuations->list.clear();
    return Status();
  });
}

flexq_status flexq_continuations_add(flexq_continuations* continuations,
                                     const int32_t* context_tokens, int32_t n_context,
                                     const int32_t* tokens, int32_t n_tokens) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(continuations);
    FLEXQ_REQUIRE(context_tokens);
    FLEXQ_REQUIRE(tokens);
    if (n_context < 1) return flexq::api::invalid_range("n_context", 1, INT32_MAX, n_context);
    // Both together are counted in an int32_t.
    const int32_t most_tokens = INT32_MAX - n_context;
    if (n_tokens < 1 || n_tokens > most_tokens)
      return flexq::api::invalid_range("n_tokens", 1, most_tokens, n_tokens);
    flexq::Continuation text;
    text.tokens.reserve(static_cast<size_t>(n_context) + static_cast<size_t>(n_tokens));
    text.tokens.assign(context_tokens, context_tokens + n_context);
    text.tokens.insert(text.tokens.end(), tokens, tokens + n_tokens);
    text.n_scored = n_tokens;
    continuations->list.push_back(std::move(text));
    return Status();
  });
}

flexq_status flexq_context_score_continuations(flexq_context* context,
                                               const flexq_continuations* continuations,
                                               double* scores, flexq_progress_callback progress,
                                               void* user_data) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(continuations);
    FLEXQ_REQUIRE(scores);
    const Held held_list(continuations);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    // Written on success only.
    std::vector<double> found(held_list->list.size());
    FLEXQ_RETURN_IF_ERROR(flexq::score_continuations(
        *entered, held_list->list, found.data(),
        [&](int64_t done, int64_t total) {
          return progress != nullptr && progress(done, total, user_data) != 0;
        },
        [](size_t) { return false; }));
    std::copy(found.begin(), found.end(), scores);
    return Status();
  });
}

}  // extern "C"
