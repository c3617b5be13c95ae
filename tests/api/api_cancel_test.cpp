// The ways to stop: progress callbacks, a batch's and a generator's latch, deadlines.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "api/api_fixture.h"
#include "support/test_data.h"

using namespace flexq::test;

namespace {

constexpr char kPrompt[] = "Once upon a time";

// Cancels at the n-th call; checks that done grows to total.
struct Countdown {
  int calls_left = INT32_MAX;
  int n_calls = 0;
  int64_t last_done = 0;
  int64_t last_total = 0;
};

int32_t count_down(int64_t done, int64_t total, void* user_data) {
  auto* countdown = static_cast<Countdown*>(user_data);
  CHECK(done >= countdown->last_done);
  CHECK(done <= total);
  countdown->last_done = done;
  countdown->last_total = total;
  ++countdown->n_calls;
  return --countdown->calls_left <= 0 ? 1 : 0;
}

// A context that takes long over a long prompt: one forward pass per token.
Context slow_context(const flexq_model* model) {
  return make_context(model, [](flexq_context_options* options) {
    REQUIRE_OK(flexq_context_options_set_chunk_tokens(options, 1));
  });
}

std::vector<int32_t> long_prompt(size_t n_tokens) {
  std::vector<int32_t> tokens(n_tokens);
  for (size_t i = 0; i < n_tokens; ++i)
    tokens[i] = static_cast<int32_t>(3 + i * 7 % 500);
  return tokens;
}

// Waits until another thread's call is inside the context, or done() says that it has ended.
template <typename Done>
void wait_until_inside(const flexq_context* context, Done done) {
  flexq_context_counters counters = {};
  counters.struct_size = sizeof counters;
  while (!done() && flexq_context_get_counters(context, &counters) == FLEXQ_OK)
    std::this_thread::yield();
}

// Runs call() on a thread and cancel() here once it is computing; gives its status. Whether the
// cancel comes before the call's end is up to the scheduler: the caller tries again.
template <typename Call, typename Cancel>
flexq_status cancel_inside(const flexq_context* context, Call call, Cancel cancel) {
  std::atomic<bool> ended{false};
  flexq_status status = FLEXQ_ERROR_INTERNAL;
  std::thread thread([&] {
    do {
      status = call();
    } while (status == FLEXQ_ERROR_INVALID_STATE);  // refused: the other thread was looking
    ended = true;
  });
  wait_until_inside(context, [&] { return ended.load(); });
  cancel();
  thread.join();
  return status;
}

constexpr int kAttempts = 50;

}  // namespace

TEST_CASE("a load is cancelled by its progress callback at any call") {
  const Source source = open_source(stories_bundle());
  ModelOptions options;
  REQUIRE_OK(flexq_model_options_create(options.out()));
  REQUIRE_OK(flexq_model_options_set_threads(options, 1));
  const auto load = [&](Countdown& countdown, flexq_model** model) {
    REQUIRE_OK(flexq_model_options_set_progress(options, count_down, &countdown));
    return flexq_model_load(source, options, model);
  };
  Model model;
  Countdown whole;
  REQUIRE_OK(load(whole, model.out()));
  CHECK(whole.last_done == whole.last_total);
  CHECK(whole.n_calls > 3);
  for (int k = 1; k <= whole.n_calls; ++k) {
    Countdown countdown;
    countdown.calls_left = k;
    flexq_model* untouched = model.get();
    CHECK_ERROR(load(countdown, &untouched), "CANCELLED", "progress callback");
    CHECK(untouched == model.get());
    CHECK(countdown.n_calls == k);
  }
}

TEST_CASE("a cancelled quantization leaves what was there, byte for byte") {
  const TemporaryDirectory directory;
  const std::string output = directory.file("model.flexq");
  QuantizeOptions options;
  REQUIRE_OK(flexq_quantize_options_create(options.out()));
  REQUIRE_OK(flexq_quantize_options_set_threads(options, 2));
  const auto quantize = [&](Countdown& countdown) {
    REQUIRE_OK(flexq_quantize_options_set_progress(options, count_down, &countdown));
    return flexq_quantize(stories_checkpoint().c_str(), output.c_str(), options);
  };
  const auto n_files = [&] {
    const std::filesystem::directory_iterator files(directory.path());
    return std::distance(begin(files), end(files));
  };
  Countdown first;
  first.calls_left = 1;
  CHECK_ERROR(quantize(first), "CANCELLED", "progress callback");
  CHECK(n_files() == 0);

  const std::string old = "what was there before";
  std::ofstream(output, std::ios::binary) << old;
  Countdown whole;
  int n_calls = 0;
  {
    const TemporaryDirectory elsewhere;
    REQUIRE_OK(flexq_quantize_options_set_progress(options, count_down, &whole));
    REQUIRE_OK(
        flexq_quantize(stories_checkpoint().c_str(), elsewhere.file("m.flexq").c_str(), options));
    CHECK(whole.last_done == whole.last_total);
    CHECK(file_bytes(elsewhere.file("m.flexq")) == file_bytes(stories_bundle()));
    n_calls = whole.n_calls;
  }
  CHECK(n_calls > 2);
  for (int k = 1; k <= n_calls; ++k) {
    CAPTURE(k);
    Countdown countdown;
    countdown.calls_left = k;
    CHECK_ERROR(quantize(countdown), "CANCELLED", "progress callback");
    CHECK(file_bytes(output) == old);
    CHECK(n_files() == 1);
  }
  Countdown to_the_end;
  REQUIRE_OK(quantize(to_the_end));
  CHECK(file_bytes(output) == file_bytes(stories_bundle()));

  // Verifying is cancelled in the same way.
  Bundle bundle;
  REQUIRE_OK(flexq_bundle_open(open_source(output), bundle.out()));
  Countdown verify;
  verify.calls_left = 1;
  CHECK_ERROR(flexq_bundle_verify(bundle, 1, count_down, &verify), "CANCELLED",
              "progress callback");
}

TEST_CASE("a batch's cancel holds until the batch is cleared, and for no other batch") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  const std::vector<int32_t> tokens = encode(model, kPrompt);
  const auto n_tokens = static_cast<int32_t>(tokens.size());
  Batch batch;
  REQUIRE_OK(flexq_batch_create(batch.out()));
  REQUIRE_OK(flexq_batch_add(batch, 0, tokens.data(), n_tokens, FLEXQ_OUTPUT_LAST));
  flexq_batch_cancel(batch);
  for (int i = 0; i < 2; ++i) {
    CHECK_ERROR(flexq_context_decode(context, batch), "CANCELLED", "decode");
    CHECK(flexq_context_sequence_length(context, 0) == 0);
    CHECK(flexq_context_output_count(context) == 0);
  }
  Batch other;
  REQUIRE_OK(flexq_batch_create(other.out()));
  REQUIRE_OK(flexq_batch_add(other, 0, tokens.data(), n_tokens, FLEXQ_OUTPUT_LAST));
  CHECK(flexq_context_decode(context, other) == FLEXQ_OK);
  REQUIRE_OK(flexq_context_rewind(context, 0, 0));
  REQUIRE_OK(flexq_batch_clear(batch));
  REQUIRE_OK(flexq_batch_add(batch, 0, tokens.data(), n_tokens, FLEXQ_OUTPUT_LAST));
  CHECK(flexq_context_decode(context, batch) == FLEXQ_OK);
  CHECK(flexq_context_sequence_length(context, 0) == n_tokens);
}

TEST_CASE("a batch is cancelled from another thread while it is computed") {
  const Model model = load_model(stories_bundle());
  const Context context = slow_context(model);
  const std::vector<int32_t> before = {1, 5, 6};
  const std::vector<int32_t> tokens = long_prompt(500);
  const std::vector<float> expected = [&] {
    const Context undisturbed = make_context(model);
    last_logits(undisturbed, 0, before);
    return last_logits(undisturbed, 0, {7});
  }();
  last_logits(context, 0, before);
  int n_cancelled = 0;
  for (int i = 0; i < kAttempts && n_cancelled < 3; ++i) {
    Batch batch;
    REQUIRE_OK(flexq_batch_create(batch.out()));
    REQUIRE_OK(flexq_batch_add(batch, 0, tokens.data(), 500, FLEXQ_OUTPUT_LAST));
    const flexq_status status = cancel_inside(
        context, [&] { return flexq_context_decode(context, batch); },
        [&] { flexq_batch_cancel(batch); });
    if (status == FLEXQ_ERROR_CANCELLED) {
      ++n_cancelled;
      CHECK(flexq_context_sequence_length(context, 0) == 3);
    } else {
      CHECK(status == FLEXQ_OK);
      REQUIRE_OK(flexq_context_rewind(context, 0, 3));
    }
  }
  CHECK(n_cancelled == 3);
  CHECK(last_logits(context, 0, {7}) == expected);
}

TEST_CASE("a generator's cancel before the start is not lost and is nobody else's") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  const Generator generator = make_generator(context);
  flexq_generator_cancel(generator);
  REQUIRE_OK(start(generator, kPrompt));
  CHECK_ERROR(flexq_generator_run(generator, nullptr, nullptr), "CANCELLED", "cancelled");
  CHECK(stats_of(generator).finish_reason == FLEXQ_FINISH_CANCELLED);
  CHECK(stats_of(generator).n_generated_tokens == 0);
  CHECK(text_of(generator).empty());
  CHECK(flexq_context_sequence_length(context, 0) == 0);
  flexq_token_event event = {};
  event.struct_size = sizeof event;
  CHECK_ERROR(flexq_generator_next(generator, &event), "INVALID_STATE", "finished");

  const Generator other = make_generator(
      context, [](flexq_generator_options* o) { flexq_generator_options_set_max_tokens(o, 3); });
  REQUIRE_OK(start(other, kPrompt));
  CHECK(flexq_generator_run(other, nullptr, nullptr) == FLEXQ_OK);
}

TEST_CASE("a generator is cancelled within its prompt") {
  const Model model = load_model(stories_bundle());
  const Context context = slow_context(model);
  const std::vector<int32_t> tokens = long_prompt(500);
  int n_cancelled = 0;
  for (int i = 0; i < kAttempts && n_cancelled < 3; ++i) {
    const Generator generator = make_generator(context);
    REQUIRE_OK(flexq_generator_start_tokens(generator, tokens.data(), 500));
    flexq_token_event event = {};
    event.struct_size = sizeof event;
    const flexq_status status = cancel_inside(
        context, [&] { return flexq_generator_next(generator, &event); },
        [&] { flexq_generator_cancel(generator); });
    if (status == FLEXQ_ERROR_CANCELLED) {
      ++n_cancelled;
      CHECK(flexq_context_sequence_length(context, 0) == 0);
      CHECK(stats_of(generator).finish_reason == FLEXQ_FINISH_CANCELLED);
    } else {
      CHECK(status == FLEXQ_OK);
      REQUIRE_OK(flexq_context_rewind(context, 0, 0));
    }
  }
  CHECK(n_cancelled == 3);
}

TEST_CASE("a generator is cancelled while it answers") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  const auto n_prompt = static_cast<int32_t>(encode(model, kPrompt).size());
  const Generator reference = make_generator(context);
  REQUIRE_OK(start(reference, kPrompt));
  std::vector<RecordedEvent> whole;
  REQUIRE_OK(flexq_generator_run(reference, record_event, &whole));
  REQUIRE_OK(flexq_context_rewind(context, 0, 0));

  // Cancelling is the one call that a callback may make on its own generator.
  struct Answer {
    flexq_generator* generator;
    std::vector<RecordedEvent> events;
  };
  const Generator generator = make_generator(context);
  Answer answer{generator, {}};
  REQUIRE_OK(start(generator, kPrompt));
  const flexq_token_callback cancel_at_fourth = [](const flexq_token_event* event,
                                                   void* user_data) -> int32_t {
    auto* current = static_cast<Answer*>(user_data);
    record_event(event, &current->events);
    if (current->events.size() == 4) flexq_generator_cancel(current->generator);
    return 0;
  };
  CHECK_ERROR(flexq_generator_run(generator, cancel_at_fourth, &answer), "CANCELLED", "cancelled");
  CHECK(answer.events == std::vector<RecordedEvent>(whole.begin(), whole.begin() + 4));
  CHECK(stats_of(generator).finish_reason == FLEXQ_FINISH_CANCELLED);
  CHECK(tokens_of(generator).size() == 4);
  CHECK(text_of(reference).rfind(text_of(generator), 0) == 0);
  CHECK(flexq_context_sequence_length(context, 0) == n_prompt + 3);

  // The context goes on as if the cancelled step had never been begun.
  const Generator rest = make_generator(context);
  REQUIRE_OK(flexq_generator_start_tokens(rest, &answer.events.back().token, 1));
  std::vector<RecordedEvent> more;
  REQUIRE_OK(flexq_generator_run(rest, record_event, &more));
  CHECK(more[0].token == whole[4].token);
}

TEST_CASE("a deadline ends the prompt and the answer") {
  const Model model = load_model(stories_bundle());
  const Context context = slow_context(model);
  const auto with_deadline = [](int64_t milliseconds) {
    return [milliseconds](flexq_generator_options* options) {
      REQUIRE_OK(flexq_generator_options_set_deadline(options, milliseconds));
      REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 0));
      REQUIRE_OK(flexq_generator_options_set_ignore_end(options, 1));
    };
  };
  const Generator late = make_generator(context, with_deadline(1));
  const std::vector<int32_t> tokens = long_prompt(500);
  REQUIRE_OK(flexq_generator_start_tokens(late, tokens.data(), 500));
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  CHECK_ERROR(flexq_generator_run(late, nullptr, nullptr), "DEADLINE_EXCEEDED", "1 ms");
  CHECK(stats_of(late).finish_reason == FLEXQ_FINISH_DEADLINE);
  CHECK(flexq_context_sequence_length(context, 0) == 0);

  const Generator slow = make_generator(context, with_deadline(2000));
  REQUIRE_OK(start(slow, kPrompt));
  std::vector<RecordedEvent> events;
  const flexq_token_callback wait_once = [](const flexq_token_event* event, void* user_data) {
    record_event(event, user_data);
    if (static_cast<std::vector<RecordedEvent>*>(user_data)->size() == 2)
      std::this_thread::sleep_for(std::chrono::milliseconds(2001));
    return 0;
  };
  CHECK_ERROR(flexq_generator_run(slow, wait_once, &events), "DEADLINE_EXCEEDED", "2000 ms");
  CHECK(events.size() == 2);
  CHECK(tokens_of(slow).size() == 2);

  REQUIRE_OK(flexq_context_rewind(context, 0, 0));
  const Generator in_time = make_generator(context, [](flexq_generator_options* options) {
    REQUIRE_OK(flexq_generator_options_set_deadline(options, 600'000));
    REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 3));
  });
  REQUIRE_OK(start(in_time, kPrompt));
  CHECK(flexq_generator_run(in_time, nullptr, nullptr) == FLEXQ_OK);
}
