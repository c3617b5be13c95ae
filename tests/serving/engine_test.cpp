// An engine under requests from many threads.
#include "serving/engine.h"

#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "runtime/runtime_fixtures.h"
#include "serving/serving_fixtures.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr int32_t kContextTokens = 128;

#if defined(__SANITIZE_THREAD__)
constexpr size_t kRequests = 1'000;
#else
constexpr size_t kRequests = 10'000;
#endif

const std::shared_ptr<const LoadedModel>& stories_model() {
  static const auto model = open_test_model(source_path("samples/data/stories260k"), "auto", 2);
  return model;
}

std::shared_ptr<Context> make_context(int32_t n_sequences, int32_t cache_tokens = 0) {
  ContextOptions options;
  options.context_tokens = kContextTokens;
  options.n_sequences = n_sequences;
  options.cache_tokens = cache_tokens;
  options.chunk_tokens = 64;
  return value_of(Context::create(stories_model(), options));
}

// Until the last step's metrics are there.
EngineMetrics idle_metrics(const Engine& engine) {
  for (;;) {
    const EngineMetrics metrics = engine.metrics();
    const SchedulerMetrics& scheduler = metrics.scheduler;
    if (scheduler.n_finished + scheduler.n_cancelled + scheduler.n_deadline + scheduler.n_failed ==
            metrics.n_submitted &&
        scheduler.n_running == 0)
      return metrics;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

TEST_CASE("engine: requests from eight threads get what each gets alone") {
  std::mt19937 random(31);
  const std::vector<Prompt> prompts = random_prompts(random, 64, 512, 50, 30);
  std::vector<Outcome> expected;
  for (const Prompt& prompt : prompts)
    expected.push_back(answer_alone(stories_model(), kContextTokens, prompt));
  const auto engine = value_of(Engine::create(make_context(16, 700), {}));
  std::vector<Outcome> found(prompts.size());
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::shared_ptr<Request>> requests;
      for (size_t i = t; i < prompts.size(); i += 8)
        requests.push_back(value_of(engine->submit(prompts[i].tokens, prompts[i].options)));
      for (size_t i = t; i < prompts.size(); i += 8)
        found[i] = read_answer(*requests[i / 8]);
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  CHECK(found == expected);
  const EngineMetrics metrics = idle_metrics(*engine);
  CHECK(metrics.n_submitted == 64);
  CHECK(metrics.scheduler.n_finished == 64);
  CHECK(metrics.scheduler.pages_used == 0);
}

TEST_CASE("engine: every request is in one count of any reading") {
  EngineOptions options;
  options.n_queue = 1000;
  const auto engine = value_of(Engine::create(make_context(4), options));
  std::atomic<bool> reads{true};
  std::atomic<int> n_wrong{0};
  std::thread reader([&] {
    while (reads) {
      const EngineMetrics metrics = engine->metrics();
      const SchedulerMetrics& scheduler = metrics.scheduler;
      n_wrong += scheduler.n_waiting + scheduler.n_running + scheduler.n_finished +
                     scheduler.n_cancelled + scheduler.n_deadline + scheduler.n_failed !=
                 metrics.n_submitted;
    }
  });
  std::mt19937 random(7);
  std::vector<std::shared_ptr<Request>> requests;
  for (const Prompt& prompt : random_prompts(random, 200, 512, 60, 4)) {
    requests.push_back(value_of(engine->submit(prompt.tokens, prompt.options)));
    if (random() % 4 == 0) requests.back()->cancel();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
  }
  for (const std::shared_ptr<Request>& request : requests)
    static_cast<void>(read_answer(*request));
  reads = false;
  reader.join();
  CHECK(n_wrong.load() == 0);
}

TEST_CASE("engine: thousands of requests with random cancels and deadlines leak and lose nothing") {
  EngineOptions options;
  options.n_queue = static_cast<int32_t>(kRequests);
  const auto engine = value_of(Engine::create(make_context(16, 600), options));
  std::atomic<int> n_ended{0};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(100 + t);
      for (size_t i = t; i < kRequests; i += 8) {
        Prompt prompt = random_prompts(random, 1, 512, 40, 6)[0];
        if (random() % 5 == 0) prompt.options.deadline_ms = 1 + static_cast<int>(random() % 20);
        const auto request = value_of(engine->submit(prompt.tokens, prompt.options));
        const uint32_t fate = random() % 4;
        if (fate == 0) request->cancel();
        if (fate == 1) {
          static_cast<void>(request->next(random() % 3));
          request->cancel();
        }
        if (fate == 2) continue;  // nobody ever reads it
        Outcome outcome;
        while (outcome.finish_reason == FinishReason::kNone) {
          read_events(*request, outcome);
          std::this_thread::yield();
        }
        ++n_ended;
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  const EngineMetrics metrics = idle_metrics(*engine);
  CHECK(n_ended > static_cast<int>(kRequests / 2));
  CHECK(metrics.n_submitted == static_cast<int64_t>(kRequests));
  CHECK(metrics.scheduler.n_waiting == 0);
  CHECK(metrics.scheduler.pages_used == 0);
  CHECK(metrics.scheduler.n_failed == 0);
  CHECK(metrics.scheduler.n_cancelled > 0);
  CHECK(metrics.scheduler.n_finished > 0);
}

TEST_CASE("engine: what it refuses") {
  const auto context = make_context(2, 96);
  EngineOptions options;
  options.step_tokens = 65;
  CHECK(Engine::create(context, options).status().code() == StatusCode::kUnsupportedValue);
  {
    const ContextUse use(*context);
    CHECK(Engine::create(context, {}).status().code() == StatusCode::kInvalidState);
  }
  const std::vector<int32_t> tokens = {1, 2, 3};
  const BatchItem item = {1, tokens, OutputRows::kNone};
  require_ok(context->decode({&item, 1}, kNeverStop));
  CHECK(Engine::create(context, {}).status().code() == StatusCode::kInvalidState);
  require_ok(context->rewind(1, 0));
  {
    const auto engine = value_of(Engine::create(context, {}));
    CHECK_FALSE(ContextUse(*context).status().ok());
    const auto code = [&](std::span<const int32_t> prompt, const GeneratorOptions& with) {
      return engine->submit(prompt, with).status().code();
    };
    GeneratorOptions other_sequence;
    other_sequence.sequence = 1;
    CHECK(code(tokens, other_sequence) == StatusCode::kInvalidArgument);
    CHECK(code({}, {}) == StatusCode::kInvalidArgument);
    CHECK(code(std::vector<int32_t>{512}, {}) == StatusCode::kInvalidArgument);
    CHECK(code(std::vector<int32_t>(97, 5), {}) == StatusCode::kContextFull);
    CHECK(code(std::vector<int32_t>(129, 5), {}) == StatusCode::kContextFull);
    CHECK(engine->metrics().n_submitted == 0);
  }
  CHECK(ContextUse(*context).status().ok());  // given back
}

TEST_CASE("engine: a full queue refuses until there is room") {
  EngineOptions options;
  options.n_queue = 3;
  const auto engine = value_of(Engine::create(make_context(2), options));
  GeneratorOptions long_answer;
  long_answer.max_tokens = 100;
  long_answer.ignore_end = true;
  const std::vector<int32_t> tokens = {1, 2, 3};
  std::vector<std::shared_ptr<Request>> requests;
  // Two places and three that wait, unless the first ones have ended meanwhile.
  Status refused;
  while (refused.ok()) {
    Result<std::shared_ptr<Request>> request = engine->submit(tokens, long_answer);
    if (request.ok())
      requests.push_back(std::move(request).value());
    else
      refused = request.status();
  }
  CHECK(refused.code() == StatusCode::kQueueFull);
  CHECK(requests.size() >= 5);
  CHECK(engine->metrics().n_refused == 1);
  for (const std::shared_ptr<Request>& request : requests)
    CHECK(read_answer(*request).tokens.size() == 100);
  CHECK(engine->submit(tokens, long_answer).ok());
}

TEST_CASE("engine: its end cancels what is under way, and the answers stay readable") {
  std::vector<std::shared_ptr<Request>> requests;
  {
    const auto engine = value_of(Engine::create(make_context(2), {}));
    GeneratorOptions options;
    options.max_tokens = 0;
    options.ignore_end = true;
    for (int32_t i = 1; i < 7; ++i)
      requests.push_back(value_of(engine->submit(std::vector<int32_t>{i, 2, 3}, options)));
    REQUIRE(requests[0]->next(-1)->has_value());
  }
  size_t n_cancelled = 0;
  for (const std::shared_ptr<Request>& request : requests) {
    const Outcome outcome = read_answer(*request);
    CHECK(outcome.finish_reason != FinishReason::kNone);
    n_cancelled += outcome.error == StatusCode::kCancelled ? 1 : 0;
  }
  CHECK(n_cancelled >= 1);
}

TEST_CASE("engine: a reader waits no longer than it wants to") {
  const auto engine = value_of(Engine::create(make_context(1), {}));
  GeneratorOptions options;
  options.max_tokens = 1;
  const auto request = value_of(engine->submit(std::vector<int32_t>{1}, options));
  Result<std::optional<RequestEvent>> event = request->next(60'000);
  REQUIRE(event.ok());
  REQUIRE(event->has_value());
  CHECK((*event)->token >= 0);
  CHECK(read_answer(*request).finish_reason == FinishReason::kLength);
  const RequestStats stats = request->stats();
  CHECK(stats.n_generated_tokens == 1);
  CHECK(stats.submitted_ns <= stats.placed_ns);
  CHECK(stats.placed_ns <= stats.first_token_ns);
  CHECK(stats.first_token_ns <= stats.ended_ns);
}

}  // namespace flexq::test
