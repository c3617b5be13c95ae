// Steps of many requests over one context: every request gets what it gets alone, whatever else is
// under way, however few pages there are; and who computes what, counted in tokens.
#include "serving/scheduler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "runtime/runtime_fixtures.h"
#include "serving/serving_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr int32_t kContextTokens = 128;

const std::shared_ptr<const LoadedModel>& tiny_model() {
  static const auto model = open_test_model(source_path("tests/data/wiki-tiny-1m"), "auto", 2);
  return model;
}

struct Sizes {
  int32_t n_sequences = 8;
  int32_t cache_tokens = 0;
  int32_t chunk_tokens = 64;
};

std::shared_ptr<Context> make_context(const Sizes& sizes,
                                      const std::shared_ptr<const LoadedModel>& model) {
  ContextOptions options;
  options.context_tokens = kContextTokens;
  options.n_sequences = sizes.n_sequences;
  options.cache_tokens = sizes.cache_tokens;
  options.chunk_tokens = sizes.chunk_tokens;
  return value_of(Context::create(model, options));
}

// A context, a scheduler over it, and requests with what they got so far.
class Service {
 public:
  explicit Service(const Sizes& sizes, SchedulerOptions options = {},
                   const std::shared_ptr<const LoadedModel>& model = tiny_model())
      : context_(make_context(sizes, model)), scheduler_(*context_, options) {}

  size_t add(const Prompt& prompt) {
    Scheduler::Submission submission = make_submission(*context_, prompt);
    requests_.push_back(submission.request);
    outcomes_.emplace_back();
    scheduler_.add(std::move(submission));
    return requests_.size() - 1;
  }
  Status step() {
    const Status status = scheduler_.step(kNeverStop);
    for (size_t i = 0; i < requests_.size(); ++i)
      read_events(*requests_[i], outcomes_[i]);
    return status;
  }
  void run() {
    for (int i = 0; !scheduler_.idle(); ++i) {
      REQUIRE(i < 100'000);
      require_ok(step());
    }
    CHECK(metrics().pages_used == 0);
    CHECK(metrics().n_waiting == 0);
    CHECK(metrics().n_running == 0);
  }

  Request& request(size_t index) { return *requests_[index]; }
  const Outcome& outcome(size_t index) const { return outcomes_[index]; }
  const SchedulerMetrics& metrics() const { return scheduler_.metrics(); }
  Scheduler& scheduler() { return scheduler_; }
  const Context& context() const { return *context_; }

 private:
  std::shared_ptr<Context> context_;
  Scheduler scheduler_;
  std::vector<std::shared_ptr<Request>> requests_;
  std::vector<Outcome> outcomes_;
};

Prompt prompt_of(std::vector<int32_t> tokens, int32_t max_tokens) {
  Prompt prompt;
  prompt.tokens = std::move(tokens);
  prompt.options.max_tokens = max_tokens;
  prompt.options.ignore_end = true;
  return prompt;
}

std::vector<int32_t> tokens_of(int64_t n, uint64_t seed) {
  return random_tokens(n, 2048, seed);
}

std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

TEST_CASE("scheduler: 64 requests in any mix get what each gets alone") {
  std::mt19937 random(21);
  std::vector<Prompt> prompts = random_prompts(random, 64, 2048, 40, 70);
  // Some begin alike.
  for (size_t i = 40; i < 64; ++i)
    prompts[i].tokens = joined(tokens_of(20 + static_cast<int64_t>(i % 3) * 16, 5),
                               tokens_of(1 + static_cast<int64_t>(i) % 7, i));
  std::vector<Outcome> expected;
  for (const Prompt& prompt : prompts)
    expected.push_back(answer_alone(tiny_model(), kContextTokens, prompt));

  struct Setting {
    Sizes sizes;
    SchedulerOptions options;
    bool preempts = false;
  };
  const Setting settings[] = {
      {{8, 0, 64}, {}},
      {{64, 0, 256}, {}},
      {{8, 0, 64}, {0, false}},
      {{8, 160, 64}, {}, true},  // pages for little more than one whole request
      {{8, 160, 64}, {0, false}, true},
      {{16, 200, 40}, {7, true}, true},  // steps smaller than the answers under way
      {{1, 128, 16}, {}},
      {{3, 144, 33}, {1, true}},
  };
  for (const Setting& setting : settings) {
    CAPTURE(setting.sizes.n_sequences);
    CAPTURE(setting.sizes.cache_tokens);
    CAPTURE(setting.options.step_tokens);
    CAPTURE(setting.options.reuses_prefixes);
    Service service(setting.sizes, setting.options);
    for (const Prompt& prompt : prompts) {
      service.add(prompt);
      if (random() % 3 == 0) require_ok(service.step());
    }
    service.run();
    for (size_t i = 0; i < prompts.size(); ++i) {
      CAPTURE(i);
      CHECK(service.outcome(i).tokens == expected[i].tokens);
      CHECK(service.outcome(i) == expected[i]);
    }
    const SchedulerMetrics& metrics = service.metrics();
    CHECK(metrics.n_finished == 64);
    if (setting.preempts) CHECK(metrics.n_preemptions > 0);
    CHECK((metrics.reused_tokens > 0) == setting.options.reuses_prefixes);
    CHECK((metrics.pages_cached > 0) == setting.options.reuses_prefixes);
  }
}

TEST_CASE("scheduler: a prefix that many share is computed once") {
  constexpr int64_t kShared = 64;
  const std::vector<int32_t> shared = tokens_of(kShared, 1);
  Service service({32, 0, 48});
  constexpr int32_t kGenerated = 3;
  for (uint64_t i = 0; i < 32; ++i)
    service.add(prompt_of(joined(shared, tokens_of(5, 100 + i)), kGenerated));
  service.run();
  const SchedulerMetrics& metrics = service.metrics();
  CHECK(metrics.reused_tokens == 31 * kShared);
  // Each computes its own five tokens and all generated ones but the last.
  CHECK(metrics.computed_tokens == kShared + 32 * (5 + kGenerated - 1));
  CHECK(service.request(0).stats().n_reused_tokens == 0);
  CHECK(service.request(31).stats().n_reused_tokens == kShared);

  // Later requests find it, too; what follows an answer finds the answer.
  const std::vector<int32_t> turn =
      joined(joined(shared, tokens_of(5, 100)), service.outcome(0).tokens);
  const size_t next = service.add(prompt_of(joined(turn, tokens_of(20, 7)), 2));
  service.run();
  CHECK(service.request(next).stats().n_reused_tokens == 64);
  const size_t again = service.add(prompt_of(joined(turn, tokens_of(20, 7)), 2));
  service.run();
  CHECK(service.request(again).stats().n_reused_tokens == 80);
  CHECK(service.outcome(again).tokens == service.outcome(next).tokens);
}

TEST_CASE(
    "scheduler: a long prompt does not stop answers under way, and steps keep to their budget") {
  Service service({4, 0, 64}, {16, true});
  const size_t answer = service.add(prompt_of(tokens_of(3, 1), 40));
  require_ok(service.step());
  REQUIRE(service.outcome(answer).tokens.size() == 1);
  const size_t prompt = service.add(prompt_of(tokens_of(75, 2), 5));
  for (size_t step = 1; step <= 5; ++step) {
    const int64_t before = service.metrics().computed_tokens;
    require_ok(service.step());
    CHECK(service.outcome(answer).tokens.size() == 1 + step);
    CHECK(service.metrics().computed_tokens - before == 16);
    CHECK(service.outcome(prompt).tokens.size() == (step == 5 ? 1 : 0));
  }
  service.run();
}

TEST_CASE("scheduler: the order is that of arrival and priority") {
  const auto order_of_first_tokens = [](const std::vector<int32_t>& priorities) {
    Service service({1, 0, 64});
    std::vector<size_t> order;
    for (size_t i = 0; i < priorities.size(); ++i) {
      Prompt prompt = prompt_of(tokens_of(4, i), 2);
      prompt.options.priority = priorities[i];
      service.add(prompt);
    }
    while (!service.scheduler().idle()) {
      require_ok(service.step());
      for (size_t i = 0; i < priorities.size(); ++i) {
        if (!service.outcome(i).tokens.empty() &&
            std::find(order.begin(), order.end(), i) == order.end())
          order.push_back(i);
      }
    }
    return order;
  };
  CHECK(order_of_first_tokens({0, 0, 0, 0}) == std::vector<size_t>{0, 1, 2, 3});
  CHECK(order_of_first_tokens({0, 1, -100, 1}) == std::vector<size_t>{1, 3, 0, 2});
}

TEST_CASE("scheduler: cancels and deadlines end waiting and running requests, and nothing else") {
  Service service({2, 0, 64});
  for (uint64_t i = 0; i < 4; ++i) {
    Prompt prompt = prompt_of(tokens_of(20, i), 30);
    if (i == 1 || i == 3) prompt.options.deadline_ms = i == 1 ? 60'000 : 5;
    service.add(prompt);
  }
  require_ok(service.step());
  service.request(0).cancel();  // running
  service.request(2).cancel();  // waiting
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  require_ok(service.step());
  CHECK(service.outcome(0).error == StatusCode::kCancelled);
  CHECK(service.outcome(0).finish_reason == FinishReason::kCancelled);
  CHECK(service.outcome(0).tokens.size() == 1);
  CHECK(service.outcome(2).error == StatusCode::kCancelled);
  CHECK(service.outcome(3).error == StatusCode::kDeadlineExceeded);
  CHECK(service.outcome(3).finish_reason == FinishReason::kDeadline);
  service.run();
  CHECK(service.outcome(1).tokens.size() == 30);
  CHECK(service.metrics().n_cancelled == 2);
  CHECK(service.metrics().n_deadline == 1);
  CHECK(service.metrics().n_finished == 1);
}

TEST_CASE("scheduler: numbers that are not finite end the request whose they are") {
  constexpr int32_t kBadToken = 7;
  SyntheticOptions synthetic;
  synthetic.planted = {{"model.embed_tokens.weight", kBadToken, 3, 1e25f}};
  const TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), synthetic);
  const auto model = open_test_model(directory.path());
  Service service({4, 0, 16}, {}, model);
  const Prompt good = prompt_of({1, 300, 5, 12}, 12);
  Prompt forbidding = prompt_of({9, 8}, 3);
  for (int32_t token = 0; token < model->llama->config().n_vocab; ++token)
    forbidding.options.sampling.set_logit_bias(token, -INFINITY);
  service.add(good);
  service.add(prompt_of({1, 2, kBadToken, 4}, 12));
  service.add(prompt_of({2, 30, 15, 12, 13}, 12));
  service.add(forbidding);
  service.run();
  CHECK(service.outcome(0) == answer_alone(model, kContextTokens, good));
  CHECK(service.outcome(1).error == StatusCode::kNonFinite);
  CHECK(service.outcome(1).finish_reason == FinishReason::kError);
  CHECK(service.outcome(2).tokens.size() == 12);
  CHECK(service.outcome(3).error == StatusCode::kNonFinite);
  CHECK(service.metrics().n_failed == 2);
}

TEST_CASE("scheduler: a request that outgrows all pages fails alone") {
  Service service({2, 64, 64});
  const size_t large = service.add(prompt_of(tokens_of(60, 1), 30));
  const size_t small = service.add(prompt_of(tokens_of(10, 2), 10));
  service.run();
  CHECK(service.outcome(large).error == StatusCode::kContextFull);
  CHECK(service.outcome(large).tokens.size() == 5);  // the first needs no page of its own
  CHECK(service.outcome(small).tokens.size() == 10);
}

TEST_CASE("scheduler: a step that is stopped ends all requests") {
  Service service({2, 0, 64});
  service.add(prompt_of(tokens_of(10, 1), 30));
  service.add(prompt_of(tokens_of(10, 2), 30));
  service.add(prompt_of(tokens_of(10, 3), 30));
  require_ok(service.step());
  const Status stopped = service.scheduler().step(
      [] { return Status::error(StatusCode::kCancelled, "the engine was released"); });
  CHECK(stopped.code() == StatusCode::kCancelled);
  CHECK(service.scheduler().idle());
  CHECK(service.metrics().n_cancelled == 3);
  CHECK(service.metrics().pages_used == 0);
  CHECK(service.request(2).stats().finish_reason == FinishReason::kCancelled);
}

}  // namespace flexq::test
