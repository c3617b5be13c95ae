// The k-th host allocation fails, once or from then on, while an engine is made, answers and ends:
// every request ends, with its whole answer or with OUT_OF_MEMORY, nothing leaks, and a new engine
// works.
#include <doctest/doctest.h>

#include <cstring>

#include "base/memory.h"
#include "reliability/allocation_faults.h"
#include "reliability/tiny_model.h"

namespace flexq::test {
namespace {

struct Run {
  flexq_status status = FLEXQ_OK;  // the first failure
  bool explained = true;           // OUT_OF_MEMORY says so
  int32_t n_tokens = 0;

  void note(flexq_status next) {
    if (next == FLEXQ_OK || status != FLEXQ_OK) return;
    status = next;
    explained = strncmp(flexq_last_error(), "out of memory", 13) == 0;
  }
};

// Two requests over one place. Asserts nothing: it runs while allocations fail.
Run answer_two(flexq_context* context, const flexq_generator_options* options) {
  Run run;
  flexq_engine* engine = nullptr;
  flexq_request* requests[2] = {};
  const int32_t tokens[] = {1, 2, 3, 4, 5};
  run.note(flexq_engine_create(context, nullptr, &engine));
  for (flexq_request*& request : requests) {
    if (run.status == FLEXQ_OK)
      run.note(flexq_engine_submit_tokens(engine, options, tokens, 5, &request));
  }
  for (flexq_request* request : requests) {
    flexq_token_event event = {};
    event.struct_size = sizeof event;
    flexq_status status = request != nullptr ? FLEXQ_OK : FLEXQ_ERROR_INVALID_STATE;
    while (status == FLEXQ_OK && event.finish_reason == FLEXQ_FINISH_NONE) {
      status = flexq_request_next(request, -1, &event);
      run.n_tokens += status == FLEXQ_OK && event.token >= 0 ? 1 : 0;
    }
    if (request != nullptr) run.note(status);
  }
  flexq_engine_release(engine);
  for (flexq_request* request : requests)
    flexq_request_release(request);
  return run;
}

}  // namespace

TEST_CASE("T11 engine: every failing allocation") {
  const ModelHandle model = load_tiny_model();
  ContextOptionsHandle context_options;
  REQUIRE_OK(create(context_options, flexq_context_options_create));
  REQUIRE_OK(flexq_context_options_set_context_tokens(context_options.get(), 40));
  REQUIRE_OK(flexq_context_options_set_chunk_tokens(context_options.get(), 4));
  ContextHandle context;
  REQUIRE_OK(create(context, flexq_context_create, model.get(), context_options.get()));
  GeneratorOptionsHandle options;
  REQUIRE_OK(create(options, flexq_generator_options_create));
  REQUIRE_OK(flexq_generator_options_set_max_tokens(options.get(), 20));
  REQUIRE_OK(flexq_generator_options_set_ignore_end(options.get(), 1));
  constexpr int32_t kTokens = 40;
  for (int i = 0; i < 3; ++i)  // what a process makes once
    REQUIRE(answer_two(context.get(), options.get()).n_tokens == kTokens);

  for (const bool onward : {false, true}) {
    int64_t k = 0;
    int64_t n_failed = 0;
    for (bool fired = true; fired; ++k) {
      INFO("allocation ", k, onward ? " and all later ones" : "");
      const HeapUse before = heap_use();
      Run run;
      {
        const AllocationFault fault(Allocations::kHeap, k, onward);
        run = answer_two(context.get(), options.get());
        fired = fault.fired();
      }
      if (run.status == FLEXQ_OK) {
        REQUIRE(run.n_tokens == kTokens);
      } else {
        REQUIRE(run.status == FLEXQ_ERROR_OUT_OF_MEMORY);
        REQUIRE(run.explained);
        ++n_failed;
      }
      REQUIRE(answer_two(context.get(), options.get()).n_tokens == kTokens);
      const HeapUse after = heap_use();
      REQUIRE(after.live_blocks == before.live_blocks);
      REQUIRE(after.live_bytes == before.live_bytes);
    }
    CHECK(n_failed > 20);
    MESSAGE(k << " runs" << (onward ? ", onward" : "") << ", " << n_failed << " failed");
  }
}

}  // namespace flexq::test
