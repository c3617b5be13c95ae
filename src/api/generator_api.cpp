#include "api/handles.h"

using flexq::ContextUse;
using flexq::Status;
using flexq::StatusCode;
using flexq::api::guarded;
using flexq::api::Held;

static_assert(FLEXQ_FINISH_STOP == static_cast<int>(flexq::FinishReason::kStop) &&
              FLEXQ_FINISH_LENGTH == static_cast<int>(flexq::FinishReason::kLength) &&
              FLEXQ_FINISH_CANCELLED == static_cast<int>(flexq::FinishReason::kCancelled) &&
              FLEXQ_FINISH_DEADLINE == static_cast<int>(flexq::FinishReason::kDeadline) &&
              FLEXQ_FINISH_ERROR == static_cast<int>(flexq::FinishReason::kError));

namespace {

using flexq::api::kMaxAlternatives;

// One option with an inclusive range.
template <typename T>
flexq_status set_option(flexq_generator_options* options, T flexq::GeneratorOptions::*field,
                        int64_t low, int64_t high, int64_t value, const char* name) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    if (value < low || value > high) {
      return flexq::api::invalid_range(name, static_cast<double>(low), static_cast<double>(high),
                                       static_cast<double>(value));
    }
    options->options.*field = static_cast<T>(value);
    return Status();
  });
}

// Computes one event and shows it through the C struct; its pointers live in the handle. The caller
// has the context.
Status next_event(flexq_generator& handle, flexq_token_event* event) {
  FLEXQ_ASSIGN_OR_RETURN(const flexq::TokenEvent next, handle.generator->next());
  flexq::api::show_event(next, handle.alternatives, event);
  return Status();
}

// Runs body(generator) as the one thread inside the generator's context.
template <typename Body>
flexq_status with_generator(const flexq_generator* generator, Body&& body) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(generator);
    const Held held(generator);
    const ContextUse use(held->generator->context());
    FLEXQ_RETURN_IF_ERROR(use.status());
    return body(*held->generator);
  });
}

}  // namespace

extern "C" {

flexq_status flexq_generator_options_create(flexq_generator_options** options) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    *options = new flexq_generator_options;
    return Status();
  });
}

void flexq_generator_options_release(flexq_generator_options* options) {
  flexq::api::drop_reference(options);
}

flexq_status flexq_generator_options_set_sequence(flexq_generator_options* options,
                                                  int32_t sequence) {
  return set_option(options, &flexq::GeneratorOptions::sequence, 0, INT32_MAX, sequence,
                    "sequence");
}

flexq_status flexq_generator_options_set_max_tokens(flexq_generator_options* options,
                                                    int32_t max_tokens) {
  return set_option(options, &flexq::GeneratorOptions::max_tokens, 0, INT32_MAX, max_tokens,
                    "max_tokens");
}

flexq_status flexq_generator_options_set_sampling(flexq_generator_options* options,
                                                  const flexq_sampling* sampling) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    FLEXQ_REQUIRE(sampling);
    options->options.sampling = sampling->params;
    return Status();
  });
}

flexq_status flexq_generator_options_add_stop(flexq_generator_options* options, const char* text,
                                              int64_t text_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    std::string_view view;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_text("stop string", text, text_bytes, &view));
    std::vector<std::string> stop_strings = options->options.stop_strings;
    stop_strings.emplace_back(view);
    const auto matcher = flexq::StopMatcher::create(stop_strings);
    if (!matcher.ok()) return matcher.status();
    options->options.stop_strings = std::move(stop_strings);
    return Status();
  });
}

flexq_status flexq_generator_options_set_ignore_end(flexq_generator_options* options,
                                                    int32_t ignore_end) {
  return set_option(options, &flexq::GeneratorOptions::ignore_end, 0, 1, ignore_end, "ignore_end");
}

flexq_status flexq_generator_options_set_deadline(flexq_generator_options* options,
                                                  int64_t milliseconds) {
  constexpr int64_t kYear = int64_t{366} * 24 * 3600 * 1000;
  return set_option(options, &flexq::GeneratorOptions::deadline_ms, 0, kYear, milliseconds,
                    "deadline milliseconds");
}

flexq_status flexq_generator_options_set_log_probs(flexq_generator_options* options,
                                                   int32_t n_alternatives) {
  return set_option(options, &flexq::GeneratorOptions::n_alternatives, 0, kMaxAlternatives,
                    n_alternatives, "log-probability alternatives");
}

flexq_status flexq_generator_options_set_format(flexq_generator_options* options,
                                                const char* format) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    FLEXQ_REQUIRE(format);
    const std::string_view name = format;
    if (name != "text" && name != "json") {
      return Status::error(StatusCode::kUnsupportedValue,
                           "format: expected text or json, found \"%.100s\"", format);
    }
    options->options.format =
        name == "json" ? flexq::AnswerFormat::kJson : flexq::AnswerFormat::kText;
    return Status();
  });
}

flexq_status flexq_generator_options_set_priority(flexq_generator_options* options,
                                                  int32_t priority) {
  return set_option(options, &flexq::GeneratorOptions::priority, -100, 100, priority, "priority");
}

flexq_status flexq_generator_create(flexq_context* context, const flexq_generator_options* options,
                                    flexq_generator** generator) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(generator);
    const Held held(context);
    auto made = std::make_unique<flexq_generator>();
    FLEXQ_ASSIGN_OR_RETURN(
        made->generator,
        flexq::Generator::create(
            held->context, options != nullptr ? options->options : flexq::GeneratorOptions()));
    made->alternatives.reserve();  // so that no computed event gets lost
    *generator = made.release();
    return Status();
  });
}

void flexq_generator_release(flexq_generator* generator) {
  flexq::api::drop_reference(generator);
}

flexq_status flexq_generator_start(flexq_generator* generator, const char* prompt,
                                   int64_t prompt_bytes, int32_t encode_flags) {
  return with_generator(generator, [&](flexq::Generator& g) -> Status {
    std::string_view view;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_text("prompt", prompt, prompt_bytes, &view));
    flexq::EncodeOptions options;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_encode_options(encode_flags, &options));
    return g.start_text(view, options);
  });
}

flexq_status flexq_generator_start_tokens(flexq_generator* generator, const int32_t* tokens,
                                          int32_t n_tokens) {
  return with_generator(generator, [&](flexq::Generator& g) -> Status {
    if (n_tokens < 0) return flexq::api::invalid_range("n_tokens", 0, INT32_MAX, n_tokens);
    if (n_tokens > 0) FLEXQ_REQUIRE(tokens);
    return g.start_tokens({tokens, static_cast<size_t>(n_tokens)});
  });
}

flexq_status flexq_generator_next(flexq_generator* generator, flexq_token_event* event) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(generator);
    FLEXQ_REQUIRE(event);
    FLEXQ_RETURN_IF_ERROR(flexq::api::check_info(event));
    const Held held(generator);
    const ContextUse use(held->generator->context());
    FLEXQ_RETURN_IF_ERROR(use.status());
    flexq_token_event next = {};
    FLEXQ_RETURN_IF_ERROR(next_event(*held, &next));
    return flexq::api::fill_info(next, event);
  });
}

flexq_status flexq_generator_run(flexq_generator* generator, flexq_token_callback callback,
                                 void* user_data) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(generator);
    const Held held(generator);
    // Held over the callbacks too: what they are shown must not change under them.
    const ContextUse use(held->generator->context());
    FLEXQ_RETURN_IF_ERROR(use.status());
    for (;;) {
      flexq_token_event event = {};
      event.struct_size = sizeof event;
      FLEXQ_RETURN_IF_ERROR(next_event(*held, &event));
      if (callback != nullptr && callback(&event, user_data) != 0) {
        held->generator->stop_by_callback();
        return Status::error(StatusCode::kStoppedByCallback,
                             "generation was stopped by the token callback");
      }
      if (event.finish_reason != FLEXQ_FINISH_NONE) return Status();
    }
  });
}

void flexq_generator_cancel(flexq_generator* generator) {
  const Held held(generator);
  if (held) held->generator->cancel();
}

flexq_status flexq_generator_get_stats(const flexq_generator* generator,
                                       flexq_generator_stats* stats) {
  return with_generator(generator, [&](const flexq::Generator& g) -> Status {
    flexq_generator_stats filled = {};
    filled.finish_reason = static_cast<int32_t>(g.stats().finish_reason);
    filled.n_prompt_tokens = static_cast<int32_t>(g.prompt_tokens().size());
    filled.n_generated_tokens = static_cast<int32_t>(g.tokens().size());
    filled.prefill_ns = g.stats().prefill_ns;
    filled.decode_ns = g.stats().decode_ns;
    filled.time_to_first_token_ns = g.stats().time_to_first_token_ns;
    return flexq::api::fill_info(filled, stats);
  });
}

flexq_status flexq_generator_prompt_tokens(const flexq_generator* generator, int32_t* tokens,
                                           int32_t capacity, int32_t* n_tokens) {
  return with_generator(generator, [&](const flexq::Generator& g) -> Status {
    const std::span<const int32_t> prompt = g.prompt_tokens();
    return flexq::api::fill_buffer(prompt.data(), static_cast<int32_t>(prompt.size()), tokens,
                                   capacity, n_tokens, "token buffer");
  });
}

flexq_status flexq_generator_tokens(const flexq_generator* generator, int32_t* tokens,
                                    int32_t capacity, int32_t* n_tokens) {
  return with_generator(generator, [&](const flexq::Generator& g) -> Status {
    const std::span<const int32_t> generated = g.tokens();
    return flexq::api::fill_buffer(generated.data(), static_cast<int32_t>(generated.size()), tokens,
                                   capacity, n_tokens, "token buffer");
  });
}

flexq_status flexq_generator_text(const flexq_generator* generator, char* text, int64_t capacity,
                                  int64_t* text_bytes) {
  return with_generator(generator, [&](const flexq::Generator& g) -> Status {
    return flexq::api::fill_text(g.text(), text, capacity, text_bytes);
  });
}

}  // extern "C"
