#include <cstring>

#include "api/handles.h"

using flexq::Status;
using flexq::StatusCode;
using flexq::api::guarded;
using flexq::api::Held;

namespace {

// One option with an inclusive range.
flexq_status set_option(flexq_engine_options* options, int32_t flexq::EngineOptions::*field,
                        int32_t high, int32_t value, const char* name) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    if (value < 0 || value > high) return flexq::api::invalid_range(name, 0, high, value);
    options->options.*field = value;
    return Status();
  });
}

flexq::GeneratorOptions options_or_defaults(const flexq_generator_options* options) {
  return options != nullptr ? options->options : flexq::GeneratorOptions();
}

Status require_tokenizer(const flexq::Engine& engine) {
  if (engine.model().tokenizer != nullptr) return Status();
  return Status::error(StatusCode::kNotFound,
                       "engine: the model has no tokenizer; submit token ids");
}

Status submit(flexq::Engine& engine, std::span<const int32_t> prompt,
              const flexq::GeneratorOptions& options, flexq_request** request) {
  auto made = std::make_unique<flexq_request>();
  made->alternatives.reserve();
  FLEXQ_ASSIGN_OR_RETURN(made->request, engine.submit(prompt, options));
  *request = made.release();
  return Status();
}

}  // namespace

extern "C" {

flexq_status flexq_engine_options_create(flexq_engine_options** options) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    *options = new flexq_engine_options;
    return Status();
  });
}

void flexq_engine_options_release(flexq_engine_options* options) {
  flexq::api::drop_reference(options);
}

flexq_status flexq_engine_options_set_step_tokens(flexq_engine_options* options, int32_t n_tokens) {
  return set_option(options, &flexq::EngineOptions::step_tokens, flexq::kMaxChunkTokens, n_tokens,
                    "step tokens");
}

flexq_status flexq_engine_options_set_queue(flexq_engine_options* options, int32_t n_requests) {
  return set_option(options, &flexq::EngineOptions::n_queue, flexq::kMaxQueue, n_requests,
                    "waiting requests");
}

flexq_status flexq_engine_options_set(flexq_engine_options* options, const char* key,
                                      const char* value) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    FLEXQ_REQUIRE(key);
    FLEXQ_REQUIRE(value);
    if (strcmp(key, "prefix_reuse") != 0) {
      return Status::error(StatusCode::kUnknownOption,
                           "engine option: expected prefix_reuse, found %s", key);
    }
    const bool on = strcmp(value, "on") == 0;
    if (!on && strcmp(value, "off") != 0) {
      return Status::error(StatusCode::kUnsupportedValue,
                           "prefix_reuse: expected on or off, found %s", value);
    }
    options->options.reuses_prefixes = on;
    return Status();
  });
}

flexq_status flexq_engine_create(flexq_context* context, const flexq_engine_options* options,
                                 flexq_engine** engine) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(engine);
    const Held held(context);
    auto made = std::make_unique<flexq_engine>();
    FLEXQ_ASSIGN_OR_RETURN(
        made->engine,
        flexq::Engine::create(held->context,
                              options != nullptr ? options->options : flexq::EngineOptions()));
    *engine = made.release();
    return Status();
  });
}

void flexq_engine_release(flexq_engine* engine) {
  flexq::api::drop_reference(engine);
}

flexq_status flexq_engine_submit(flexq_engine* engine, const flexq_generator_options* options,
                                 const char* prompt, int64_t prompt_bytes, int32_t encode_flags,
                                 flexq_request** request) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(engine);
    FLEXQ_REQUIRE(request);
    const Held held(engine);
    std::string_view text;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_text("prompt", prompt, prompt_bytes, &text));
    flexq::EncodeOptions encode;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_encode_options(encode_flags, &encode));
    FLEXQ_RETURN_IF_ERROR(require_tokenizer(*held->engine));
    FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                           held->engine->model().tokenizer->encode(text, encode));
    return submit(*held->engine, tokens, options_or_defaults(options), request);
  });
}

flexq_status flexq_engine_submit_tokens(flexq_engine* engine,
                                        const flexq_generator_options* options,
                                        const int32_t* tokens, int32_t n_tokens,
                                        flexq_request** request) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(engine);
    FLEXQ_REQUIRE(request);
    if (n_tokens < 0) return flexq::api::invalid_range("n_tokens", 0, INT32_MAX, n_tokens);
    if (n_tokens > 0) FLEXQ_REQUIRE(tokens);
    const Held held(engine);
    return submit(*held->engine, {tokens, static_cast<size_t>(n_tokens)},
                  options_or_defaults(options), request);
  });
}

flexq_status flexq_engine_submit_chat(flexq_engine* engine, const flexq_generator_options* options,
                                      const char* template_name, const flexq_chat* chat,
                                      flexq_request** request) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(engine);
    FLEXQ_REQUIRE(chat);
    FLEXQ_REQUIRE(request);
    const Held held(engine);
    const Held held_chat(chat);
    FLEXQ_RETURN_IF_ERROR(require_tokenizer(*held->engine));
    const flexq::Tokenizer& tokenizer = *held->engine->model().tokenizer;
    FLEXQ_ASSIGN_OR_RETURN(
        const std::vector<int32_t> tokens,
        flexq::api::encode_conversation(tokenizer, template_name, *held_chat, true));
    flexq::GeneratorOptions with_stops = options_or_defaults(options);
    FLEXQ_RETURN_IF_ERROR(flexq::api::add_chat_stops(tokenizer, template_name, &with_stops));
    return submit(*held->engine, tokens, with_stops, request);
  });
}

flexq_status flexq_engine_get_metrics(const flexq_engine* engine, flexq_engine_metrics* metrics) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(engine);
    const Held held(engine);
    const flexq::EngineMetrics found = held->engine->metrics();
    const flexq::SchedulerMetrics& scheduler = found.scheduler;
    flexq_engine_metrics filled = {};
    filled.n_waiting = scheduler.n_waiting;
    filled.n_running = scheduler.n_running;
    filled.pages_total = found.pages_total;
    filled.pages_used = scheduler.pages_used;
    filled.pages_cached = scheduler.pages_cached;
    filled.n_submitted = found.n_submitted;
    filled.n_finished = scheduler.n_finished;
    filled.n_cancelled = scheduler.n_cancelled;
    filled.n_deadline = scheduler.n_deadline;
    filled.n_failed = scheduler.n_failed;
    filled.n_refused = found.n_refused;
    filled.n_preemptions = scheduler.n_preemptions;
    filled.prompt_tokens = scheduler.prompt_tokens;
    filled.reused_tokens = scheduler.reused_tokens;
    filled.computed_tokens = scheduler.computed_tokens;
    filled.generated_tokens = scheduler.generated_tokens;
    filled.n_steps = scheduler.n_steps;
    filled.step_ns = scheduler.step_ns;
    return flexq::api::fill_info(filled, metrics);
  });
}

}  // extern "C"
