// The engine through the C interface: what it gives is what a generator gives, and what it refuses.
#include <atomic>
#include <cstdint>
#include <thread>

#include "api/api_fixture.h"

using namespace flexq::test;

namespace {

Context make_engine_context(const flexq_model* model, int32_t n_sequences) {
  return make_context(model, [=](flexq_context_options* options) {
    REQUIRE_OK(flexq_context_options_set_context_tokens(options, 128));
    REQUIRE_OK(flexq_context_options_set_sequences(options, n_sequences));
  });
}

Engine make_engine(flexq_context* context) {
  Engine engine;
  REQUIRE_OK(flexq_engine_create(context, nullptr, engine.out()));
  return engine;
}

GeneratorOptions options_with(int32_t max_tokens, bool ignore_end = true) {
  GeneratorOptions options;
  REQUIRE_OK(flexq_generator_options_create(options.out()));
  REQUIRE_OK(flexq_generator_options_set_max_tokens(options, max_tokens));
  REQUIRE_OK(flexq_generator_options_set_ignore_end(options, ignore_end ? 1 : 0));
  return options;
}

Request submit(flexq_engine* engine, const flexq_generator_options* options,
               const std::string& prompt) {
  Request request;
  REQUIRE_OK(flexq_engine_submit(engine, options, prompt.data(),
                                 static_cast<int64_t>(prompt.size()), FLEXQ_ENCODE_DEFAULT,
                                 request.out()));
  return request;
}

flexq_token_event empty_event() {
  flexq_token_event event = {};
  event.struct_size = sizeof event;
  return event;
}

std::vector<RecordedEvent> read_events(flexq_request* request) {
  std::vector<RecordedEvent> events;
  do {
    flexq_token_event event = empty_event();
    REQUIRE_OK(flexq_request_next(request, -1, &event));
    events.push_back(recorded(event));
  } while (events.back().finish_reason == FLEXQ_FINISH_NONE);
  return events;
}

std::vector<RecordedEvent> generate_alone(const flexq_model* model,
                                          const flexq_generator_options* options,
                                          const std::vector<int32_t>& tokens) {
  const Context context = make_engine_context(model, 1);
  Generator generator;
  REQUIRE_OK(flexq_generator_create(context, options, generator.out()));
  REQUIRE_OK(
      flexq_generator_start_tokens(generator, tokens.data(), static_cast<int32_t>(tokens.size())));
  std::vector<RecordedEvent> events;
  REQUIRE_OK(flexq_generator_run(generator, record_event, &events));
  return events;
}

flexq_engine_metrics metrics_of(const flexq_engine* engine) {
  flexq_engine_metrics metrics = {};
  metrics.struct_size = sizeof metrics;
  REQUIRE_OK(flexq_engine_get_metrics(engine, &metrics));
  return metrics;
}

flexq_request_stats stats_of(const flexq_request* request) {
  flexq_request_stats stats = {};
  stats.struct_size = sizeof stats;
  REQUIRE_OK(flexq_request_get_stats(request, &stats));
  return stats;
}

}  // namespace

TEST_CASE("requests give the events of generators: text, tokens, conversations, JSON") {
  const Model model = load_model(wiki_tiny_bundle());
  Tokenizer tokenizer;
  REQUIRE_OK(flexq_model_tokenizer(model, tokenizer.out()));
  const Context context = make_engine_context(model, 4);
  const Engine engine = make_engine(context);

  GeneratorOptions sampled = options_with(20, false);
  set_sampling(sampled, [](flexq_sampling* sampling) {
    REQUIRE_OK(flexq_sampling_set_temperature(sampling, 0.8f));
    REQUIRE_OK(flexq_sampling_set_seed(sampling, 5));
  });
  REQUIRE_OK(flexq_generator_options_set_log_probs(sampled, 3));
  REQUIRE_OK(flexq_generator_options_set_priority(sampled, 2));
  const GeneratorOptions greedy = options_with(30);
  const GeneratorOptions json = options_with(40);
  REQUIRE_OK(flexq_generator_options_set_format(json, "json"));
  Chat chat;
  REQUIRE_OK(flexq_chat_create(chat.out()));
  REQUIRE_OK(flexq_chat_add(chat, "user", "Hello", 5));

  const std::vector<int32_t> tokens = encode(model, "In the year 1905 the");
  Request by_tokens;
  REQUIRE_OK(flexq_engine_submit_tokens(engine, greedy, tokens.data(),
                                        static_cast<int32_t>(tokens.size()), by_tokens.out()));
  const Request by_text = submit(engine, sampled, "The history of the city");
  const Request in_json = submit(engine, json, "The history of the city");
  Request by_chat;
  REQUIRE_OK(flexq_engine_submit_chat(engine, greedy, "vicuna", chat, by_chat.out()));

  int32_t n = 0;
  CHECK_ERROR(flexq_tokenizer_encode_chat(tokenizer, "vicuna", chat, 1, nullptr, 0, &n),
              "BUFFER_TOO_SMALL", "");
  std::vector<int32_t> conversation(static_cast<size_t>(n));
  REQUIRE_OK(flexq_tokenizer_encode_chat(tokenizer, "vicuna", chat, 1, conversation.data(), n, &n));
  const GeneratorOptions with_stops = options_with(30);
  REQUIRE_OK(flexq_generator_options_add_chat_stops(with_stops, tokenizer, "vicuna"));

  CHECK(read_events(by_tokens) == generate_alone(model, greedy, tokens));
  CHECK(read_events(by_text) ==
        generate_alone(model, sampled, encode(model, "The history of the city")));
  CHECK(read_events(in_json) ==
        generate_alone(model, json, encode(model, "The history of the city")));
  CHECK(read_events(by_chat) == generate_alone(model, with_stops, conversation));

  std::vector<int32_t> prompt(tokens.size());
  REQUIRE_OK(flexq_request_prompt_tokens(by_tokens, prompt.data(),
                                         static_cast<int32_t>(prompt.size()), &n));
  CHECK(prompt == tokens);
  const flexq_request_stats stats = stats_of(by_tokens);
  CHECK(stats.finish_reason == FLEXQ_FINISH_LENGTH);
  CHECK(stats.n_prompt_tokens == static_cast<int32_t>(tokens.size()));
  CHECK(stats.n_generated_tokens == 30);
  CHECK(stats.time_to_first_token_ns >= stats.queued_ns);
  CHECK(stats.total_ns >= stats.time_to_first_token_ns);
  CHECK(stats.tokens_per_second > 0);
  const flexq_engine_metrics metrics = metrics_of(engine);
  CHECK(metrics.n_submitted == 4);
  CHECK(metrics.pages_total == 4 * 8);
  CHECK(metrics.n_refused == 0);
}

TEST_CASE("an engine's errors") {
  const Model model = load_model(stories_bundle());
  const Context context = make_engine_context(model, 2);
  EngineOptions options;
  REQUIRE_OK(flexq_engine_options_create(options.out()));
  CHECK_INVALID(flexq_engine_options_set_step_tokens(options, -1), "step tokens");
  CHECK_INVALID(flexq_engine_options_set_queue(options, (1 << 20) + 1), "waiting requests");
  CHECK_ERROR(flexq_engine_options_set(options, "page_size", "16"), "UNKNOWN_OPTION",
              "prefix_reuse");
  CHECK_ERROR(flexq_engine_options_set(options, "prefix_reuse", "yes"), "UNSUPPORTED_VALUE",
              "on or off, found yes");
  REQUIRE_OK(flexq_engine_options_set_step_tokens(options, 10'000));
  Engine engine;
  CHECK_ERROR(flexq_engine_create(context, options, engine.out()), "UNSUPPORTED_VALUE",
              "found 10000");
  CHECK_INVALID(flexq_engine_create(nullptr, nullptr, engine.out()), "context");
  REQUIRE_OK(flexq_engine_options_set_step_tokens(options, 8));
  REQUIRE_OK(flexq_engine_options_set(options, "prefix_reuse", "off"));
  REQUIRE_OK(flexq_engine_options_set_queue(options, 1));
  REQUIRE_OK(flexq_engine_create(context, options, engine.out()));
  Engine second;
  CHECK_ERROR(flexq_engine_create(context, nullptr, second.out()), "INVALID_STATE",
              "one thread at a time");
  CHECK_ERROR(flexq_context_rewind(context, 0, 0), "INVALID_STATE", "one thread at a time");

  Request request;
  const GeneratorOptions long_answer = options_with(0);
  CHECK_INVALID(flexq_engine_submit(nullptr, nullptr, "x", 1, 1, request.out()), "engine");
  CHECK_INVALID(flexq_engine_submit(engine, nullptr, "x", -1, 1, request.out()), "prompt");
  CHECK_INVALID(flexq_engine_submit(engine, nullptr, "x", 1, 8, request.out()), "flags");
  CHECK_INVALID(flexq_engine_submit_tokens(engine, nullptr, nullptr, 1, request.out()), "tokens");
  CHECK_INVALID(flexq_engine_submit_tokens(engine, nullptr, nullptr, 0, request.out()),
                "at least one token");
  Chat chat;
  REQUIRE_OK(flexq_chat_create(chat.out()));
  CHECK_INVALID(flexq_engine_submit_chat(engine, nullptr, "vicuna", chat, request.out()), "");
  CHECK_ERROR(flexq_engine_submit_chat(engine, nullptr, nullptr, chat, request.out()), "NOT_FOUND",
              "template");

  std::vector<Request> requests;
  flexq_status status = FLEXQ_OK;
  while (status == FLEXQ_OK) {
    Request next;
    status = flexq_engine_submit(engine, long_answer, "Once", 4, 1, next.out());
    requests.push_back(std::move(next));
  }
  CHECK(std::string(flexq_status_name(status)) == "QUEUE_FULL");
  CHECK(metrics_of(engine).n_refused == 1);

  flexq_token_event event = empty_event();
  CHECK_INVALID(flexq_request_next(nullptr, 0, &event), "request");
  event.struct_size = 0;
  CHECK_INVALID(flexq_request_next(requests[0], 0, &event), "struct_size");
  flexq_request_cancel(requests[0]);
  event = empty_event();
  flexq_status last = FLEXQ_OK;
  while (last == FLEXQ_OK && event.finish_reason == FLEXQ_FINISH_NONE)
    last = flexq_request_next(requests[0], INT64_MAX, &event);
  if (last == FLEXQ_ERROR_CANCELLED) CHECK(std::string(flexq_last_error()) != "");
  CHECK_ERROR(flexq_request_next(requests[0], 0, &event), "INVALID_STATE", "finished");
  flexq_request_cancel(nullptr);
}

TEST_CASE("one reader at a time; a release ends a request while somebody reads it") {
  const Model model = load_model(stories_bundle());
  const Context context = make_engine_context(model, 1);
  Engine engine = make_engine(context);
  const GeneratorOptions options = options_with(0);
  // Occupies the one place, so that the second has no event yet.
  const Request first = submit(engine, options, "Once upon a time");
  flexq_request* waiting = nullptr;
  REQUIRE_OK(flexq_engine_submit(engine, options, "Once", 4, 1, &waiting));
  std::atomic<bool> reading{false};
  flexq_status ended = FLEXQ_OK;
  std::thread reader([&] {
    flexq_token_event event = empty_event();
    reading = true;
    while (ended == FLEXQ_OK && event.finish_reason == FLEXQ_FINISH_NONE)
      ended = flexq_request_next(waiting, -1, &event);
  });
  while (!reading)
    std::this_thread::yield();
  flexq_token_event event = empty_event();
  const flexq_status second = flexq_request_next(waiting, 0, &event);
  CHECK((second == FLEXQ_OK || second == FLEXQ_ERROR_INVALID_STATE));
  flexq_request_cancel(waiting);
  reader.join();
  CHECK(
      (ended == FLEXQ_OK || ended == FLEXQ_ERROR_CANCELLED || ended == FLEXQ_ERROR_INVALID_STATE));
  flexq_request_release(waiting);
  engine.reset();
  event = empty_event();
  flexq_status status = FLEXQ_OK;
  while (status == FLEXQ_OK && event.finish_reason == FLEXQ_FINISH_NONE)
    status = flexq_request_next(first, -1, &event);
  CHECK((status == FLEXQ_OK || status == FLEXQ_ERROR_CANCELLED));
  // The context is free again.
  REQUIRE_OK(flexq_context_rewind(context, 0, 0));
}

TEST_CASE("a thousand engines leave nothing behind, in whatever order their parts are released") {
  const Model model = load_model(tiny_bundle());
  const GeneratorOptions options = options_with(0);
  const int n_rounds = kSanitized ? 50 : 1000;
  for (int i = 0; i < n_rounds; ++i) {
    Context context = make_engine_context(model, 2);
    Engine engine = make_engine(context);
    const std::vector<int32_t> tokens = {1, 2, 3};
    Request request;
    REQUIRE_OK(flexq_engine_submit_tokens(engine, options, tokens.data(), 3, request.out()));
    if (i % 2 == 0) context.reset();
    if (i % 3 == 0) request.reset();
    engine.reset();
  }
}
