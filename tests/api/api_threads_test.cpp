// One context, several threads: one is inside, the others are told so and disturb nothing.
#include <atomic>
#include <thread>

#include "api/api_fixture.h"
#include "api/gate.h"

using namespace flexq::test;

namespace {

#define CHECK_BUSY(call) CHECK_ERROR(call, "INVALID_STATE", "one thread at a time")

struct PausedRun {
  Pause pause;
  std::vector<RecordedEvent> events;
};

int32_t pause_at_third(const flexq_token_event* event, void* user_data) {
  auto* run = static_cast<PausedRun*>(user_data);
  record_event(event, &run->events);
  if (run->events.size() == 3) run->pause.pass();
  return 0;
}

void limit_to_10(flexq_generator_options* options) {
  REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 10));
}

}  // namespace

TEST_CASE("a context in use refuses a second thread, readers included") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model, [](flexq_context_options* options) {
    REQUIRE_OK(flexq_context_options_set_sequences(options, 2));
  });
  const Generator generator = make_generator(context, limit_to_10);
  const Generator second = make_generator(context, [](flexq_generator_options* options) {
    REQUIRE_OK(flexq_generator_options_set_sequence(options, 1));
  });
  REQUIRE_OK(start(generator, "Once upon a time"));
  PausedRun run;
  flexq_status status = FLEXQ_ERROR_INTERNAL;
  std::thread thread([&] { status = flexq_generator_run(generator, pause_at_third, &run); });
  run.pause.inside.wait();

  const std::vector<int32_t> tokens = {5, 6};
  Batch batch;
  REQUIRE_OK(flexq_batch_create(batch.out()));
  REQUIRE_OK(flexq_batch_add(batch, 1, tokens.data(), 2, FLEXQ_OUTPUT_LAST));
  flexq_context_counters counters = {};
  counters.struct_size = sizeof counters;
  flexq_token_event event = {};
  event.struct_size = sizeof event;
  flexq_generator_stats stats = {};
  stats.struct_size = sizeof stats;
  const float* row = nullptr;
  float log_prob = 0;
  int32_t n = 0;
  int64_t n_bytes = 0;
  CHECK_BUSY(flexq_context_decode(context, batch));
  CHECK_BUSY(flexq_context_rewind(context, 1, 0));
  CHECK_BUSY(flexq_context_fork(context, 0, 1));
  CHECK_BUSY(flexq_context_score(context, tokens.data(), 2, &log_prob, nullptr, nullptr));
  Continuations continuations;
  double score = 0;
  REQUIRE_OK(flexq_continuations_create(continuations.out()));
  CHECK_BUSY(flexq_context_score_continuations(context, continuations, &score, nullptr, nullptr));
  CHECK_BUSY(flexq_context_get_counters(context, &counters));
  CHECK_BUSY(flexq_context_logits(context, 0, &row, nullptr));
  CHECK_BUSY(flexq_context_embedding(context, 0, &row, nullptr));
  CHECK(flexq_context_output_count(context) == 0);
  CHECK(flexq_context_sequence_length(context, 0) == -1);
  CHECK_BUSY(start(second, "Lily"));
  CHECK_BUSY(flexq_generator_start_tokens(second, tokens.data(), 2));
  CHECK_BUSY(flexq_generator_next(generator, &event));
  CHECK_BUSY(flexq_generator_run(generator, nullptr, nullptr));
  CHECK_BUSY(flexq_generator_get_stats(generator, &stats));
  CHECK_BUSY(flexq_generator_prompt_tokens(generator, nullptr, 0, &n));
  CHECK_BUSY(flexq_generator_tokens(generator, nullptr, 0, &n));
  CHECK_BUSY(flexq_generator_text(generator, nullptr, 0, &n_bytes));
  // What does not change may be asked at any time, and other contexts are free.
  flexq_plan plan = {};
  plan.struct_size = sizeof plan;
  CHECK(flexq_context_get_plan(context, &plan) == FLEXQ_OK);
  const Context other = make_context(model);
  const Generator elsewhere = make_generator(other, limit_to_10);
  REQUIRE_OK(start(elsewhere, "Once upon a time"));
  std::vector<RecordedEvent> expected;
  CHECK(flexq_generator_run(elsewhere, record_event, &expected) == FLEXQ_OK);

  run.pause.go_on.open();
  thread.join();
  CHECK(status == FLEXQ_OK);
  CHECK(run.events == expected);

  // Nothing of what was refused had an effect.
  CHECK(flexq_context_sequence_length(context, 1) == 0);
  CHECK(flexq_context_decode(context, batch) == FLEXQ_OK);
  CHECK(flexq_context_output_count(context) == 1);
}

TEST_CASE("two threads that decode in one context at once: each call works or is refused") {
  const Model model = load_model(tiny_bundle());
  const Context context = make_context(model, [](flexq_context_options* options) {
    REQUIRE_OK(flexq_context_options_set_sequences(options, 2));
  });
  constexpr int kCalls = 100;
  std::atomic<int> n_unexpected{0};
  int n_ok[2] = {0, 0};
  const auto hammer = [&](int32_t sequence) {
    flexq_batch* batch = nullptr;
    if (flexq_batch_create(&batch) != FLEXQ_OK) ++n_unexpected;
    for (int32_t i = 0; i < kCalls; ++i) {
      const int32_t token = 3 + i;
      flexq_batch_clear(batch);
      flexq_batch_add(batch, sequence, &token, 1, FLEXQ_OUTPUT_LAST);
      const flexq_status status = flexq_context_decode(context, batch);
      if (status == FLEXQ_OK) ++n_ok[sequence];
      if (status != FLEXQ_OK && status != FLEXQ_ERROR_INVALID_STATE) ++n_unexpected;
      flexq_context_sequence_length(context, sequence);
      flexq_context_output_count(context);
    }
    flexq_batch_release(batch);
  };
  std::thread first(hammer, 0);
  std::thread second(hammer, 1);
  first.join();
  second.join();
  CHECK(n_unexpected == 0);
  for (int32_t sequence = 0; sequence < 2; ++sequence)
    CHECK(flexq_context_sequence_length(context, sequence) == n_ok[sequence]);
  CHECK(n_ok[0] + n_ok[1] > 0);
}

TEST_CASE("a model, a tokenizer and a bundle serve several threads at once") {
  const Source source = open_source(stories_bundle());
  const Model model = load_model(stories_bundle());
  Bundle bundle;
  REQUIRE_OK(flexq_bundle_open(source, bundle.out()));
  const std::vector<int32_t> tokens = encode(model, "Once upon a time");
  const std::vector<float> expected = last_logits(make_context(model), 0, tokens);
  std::atomic<int> n_wrong{0};
  const auto work = [&] {
    flexq_context* context = nullptr;
    flexq_batch* batch = nullptr;
    flexq_tokenizer* tokenizer = nullptr;
    const float* logits = nullptr;
    int32_t ids[64];
    int32_t n = 0;
    if (flexq_context_create(model, nullptr, &context) != FLEXQ_OK) ++n_wrong;
    if (flexq_batch_create(&batch) != FLEXQ_OK) ++n_wrong;
    if (flexq_model_tokenizer(model, &tokenizer) != FLEXQ_OK) ++n_wrong;
    if (flexq_tokenizer_encode(tokenizer, "Once upon a time", 16, FLEXQ_ENCODE_DEFAULT, ids, 64,
                               &n) != FLEXQ_OK) {
      ++n_wrong;
    }
    flexq_batch_add(batch, 0, ids, n, FLEXQ_OUTPUT_LAST);
    if (flexq_context_decode(context, batch) != FLEXQ_OK) ++n_wrong;
    if (flexq_context_logits(context, 0, &logits, nullptr) != FLEXQ_OK) ++n_wrong;
    if (std::vector<float>(logits, logits + expected.size()) != expected) ++n_wrong;
    if (flexq_bundle_verify(bundle, 2, nullptr, nullptr) != FLEXQ_OK) ++n_wrong;
    flexq_model* another = nullptr;
    if (flexq_model_load(source, nullptr, &another) != FLEXQ_OK) ++n_wrong;
    flexq_model_release(another);
    flexq_tokenizer_release(tokenizer);
    flexq_batch_release(batch);
    flexq_context_release(context);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back(work);
  for (std::thread& thread : threads)
    thread.join();
  CHECK(n_wrong == 0);
}
