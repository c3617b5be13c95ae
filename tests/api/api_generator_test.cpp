// Generators: events pulled and pushed, streamed text, log-probabilities, biases, stop strings.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "api/api_fixture.h"

using namespace flexq::test;

namespace {

constexpr char kPrompt[] = "Once upon a time";
constexpr float kForbidden = -std::numeric_limits<float>::infinity();

flexq_status next(flexq_generator* generator, std::vector<RecordedEvent>& events) {
  flexq_token_event event = {};
  event.struct_size = sizeof event;
  const flexq_status status = flexq_generator_next(generator, &event);
  if (status == FLEXQ_OK) events.push_back(recorded(event));
  return status;
}

std::vector<RecordedEvent> pull_all(flexq_generator* generator) {
  std::vector<RecordedEvent> events;
  do {
    REQUIRE_OK(next(generator, events));
  } while (events.back().finish_reason == FLEXQ_FINISH_NONE);
  return events;
}

std::vector<RecordedEvent> push_all(flexq_generator* generator) {
  std::vector<RecordedEvent> events;
  REQUIRE_OK(flexq_generator_run(generator, record_event, &events));
  return events;
}

std::string joined_text(const std::vector<RecordedEvent>& events) {
  std::string text;
  for (const RecordedEvent& event : events)
    text += event.text;
  return text;
}

// A started generator on sequence 0, emptied before.
Generator started(flexq_context* context, const std::string& prompt,
                  const std::function<void(flexq_generator_options*)>& configure = {}) {
  REQUIRE_OK(flexq_context_rewind(context, 0, 0));
  Generator generator = make_generator(context, configure);
  REQUIRE_OK(start(generator, prompt));
  return generator;
}

// Whole, shortest-form UTF-8 without surrogates; written from the definition in RFC 3629.
bool is_utf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
    const size_t n = byte(i) < 0x80 ? 1 : byte(i) >= 0xf0 ? 4 : byte(i) >= 0xe0 ? 3 : 2;
    if (byte(i) >= 0x80 && (byte(i) < 0xc2 || byte(i) > 0xf4)) return false;
    if (i + n > text.size()) return false;
    for (size_t k = 1; k < n; ++k)
      if ((byte(i + k) & 0xc0) != 0x80) return false;
    if (byte(i) == 0xe0 && byte(i + 1) < 0xa0) return false;
    if (byte(i) == 0xed && byte(i + 1) > 0x9f) return false;
    if (byte(i) == 0xf0 && byte(i + 1) < 0x90) return false;
    if (byte(i) == 0xf4 && byte(i + 1) > 0x8f) return false;
    i += n;
  }
  return true;
}

}  // namespace

TEST_CASE("next and run give the same events") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  const auto configure = [](flexq_generator_options* options) {
    REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 40));
    REQUIRE_OK(flexq_generator_options_set_log_probs(options, 3));
    set_sampling(options, [](flexq_sampling* sampling) {
      REQUIRE_OK(flexq_sampling_set_temperature(sampling, 0.9f));
      REQUIRE_OK(flexq_sampling_set_top_p(sampling, 0.95f));
      REQUIRE_OK(flexq_sampling_set_seed(sampling, 42));
    });
  };
  const Generator pulled = started(context, kPrompt, configure);
  const std::vector<RecordedEvent> expected = pull_all(pulled);
  const Generator pushed = started(context, kPrompt, configure);
  CHECK(push_all(pushed) == expected);

  const auto n_prompt = static_cast<int32_t>(encode(model, kPrompt).size());
  REQUIRE(expected.size() == 41);
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < 40; ++i) {
    CHECK(expected[i].finish_reason == FLEXQ_FINISH_NONE);
    CHECK(expected[i].position == n_prompt + static_cast<int32_t>(i));
    CHECK(expected[i].alternative_tokens.size() == 3);
    tokens.push_back(expected[i].token);
  }
  CHECK(expected.back().finish_reason == FLEXQ_FINISH_LENGTH);
  CHECK(expected.back().token == -1);
  CHECK(tokens_of(pushed) == tokens);
  CHECK(flexq_context_sequence_length(context, 0) == n_prompt + 39);

  int32_t n = 0;
  std::vector<int32_t> prompt(64);
  REQUIRE_OK(flexq_generator_prompt_tokens(pushed, prompt.data(), 64, &n));
  prompt.resize(static_cast<size_t>(n));
  CHECK(prompt == encode(model, kPrompt));

  // Both ways may be mixed; after the end there is nothing more.
  const Generator mixed = started(context, kPrompt, configure);
  std::vector<RecordedEvent> events;
  for (int i = 0; i < 7; ++i)
    REQUIRE_OK(next(mixed, events));
  REQUIRE_OK(flexq_generator_run(mixed, record_event, &events));
  CHECK(events == expected);
  CHECK_ERROR(next(mixed, events), "INVALID_STATE", "finished");
  CHECK_ERROR(flexq_generator_run(mixed, nullptr, nullptr), "INVALID_STATE", "finished");
  CHECK_ERROR(start(mixed, kPrompt), "INVALID_STATE", "second");
  CHECK(text_of(mixed) == joined_text(expected));
}

TEST_CASE("streamed pieces are valid UTF-8 and add up to the text") {
  const Model model = load_model(wiki_tiny_bundle());
  const Context context = make_context(model);
  int n_replacements = 0;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    // So hot that byte tokens, and broken characters made of them, occur.
    const Generator generator = started(context, "The ", [&](flexq_generator_options* options) {
      REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 100));
      REQUIRE_OK(flexq_generator_options_set_ignore_end(options, 1));
      set_sampling(options, [&](flexq_sampling* sampling) {
        REQUIRE_OK(flexq_sampling_set_temperature(sampling, 100));
        REQUIRE_OK(flexq_sampling_set_seed(sampling, seed));
      });
    });
    const std::vector<RecordedEvent> events = push_all(generator);
    for (const RecordedEvent& event : events) {
      CAPTURE(event.text);
      CHECK(is_utf8(event.text));
    }
    const std::string text = text_of(generator);
    CHECK(joined_text(events) == text);
    if (text.find("\xef\xbf\xbd") != std::string::npos) ++n_replacements;

    std::vector<int32_t> all = encode(model, "The ");
    const std::string before = decode(model, all);
    for (const int32_t token : tokens_of(generator))
      all.push_back(token);
    CHECK(before + text == decode(model, all));
  }
  CHECK(n_replacements > 0);
}

TEST_CASE("log-probabilities are those of the untouched logits") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  constexpr int32_t kAlternatives = 5;
  const std::vector<RecordedEvent> events =
      push_all(started(context, kPrompt, [](flexq_generator_options* options) {
        REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 12));
        REQUIRE_OK(flexq_generator_options_set_log_probs(options, kAlternatives));
        set_sampling(options, [](flexq_sampling* sampling) {
          REQUIRE_OK(flexq_sampling_set_temperature(sampling, 1.5f));
          REQUIRE_OK(flexq_sampling_set_logit_bias(sampling, 300, 3.0f));
          REQUIRE_OK(flexq_sampling_set_penalties(sampling, 1.3f, 0.2f, 0.1f, 64));
        });
      }));
  const Context by_hand = make_context(model);
  std::vector<int32_t> tokens = encode(model, kPrompt);
  for (const RecordedEvent& event : events) {
    if (event.token < 0) break;
    const std::vector<float> logits = last_logits(by_hand, 0, tokens);
    tokens = {event.token};
    const auto n_vocab = static_cast<int32_t>(logits.size());
    CHECK(event.log_prob ==
          doctest::Approx(log_softmax(logits.data(), n_vocab, event.token)).epsilon(1e-5));

    std::vector<int32_t> order(logits.size());
    for (int32_t i = 0; i < n_vocab; ++i)
      order[static_cast<size_t>(i)] = i;
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    order.resize(kAlternatives);
    CHECK(event.alternative_tokens == order);
    REQUIRE(event.alternative_log_probs.size() == order.size());
    for (size_t i = 0; i < order.size(); ++i) {
      CHECK(event.alternative_log_probs[i] ==
            doctest::Approx(log_softmax(logits.data(), n_vocab, order[i])).epsilon(1e-5));
    }
  }
}

TEST_CASE("logit biases forbid and force tokens") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  const auto tokens_with = [&](const std::function<void(flexq_sampling*)>& bias) {
    const Generator generator = started(context, kPrompt, [&](flexq_generator_options* options) {
      REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 10));
      set_sampling(options, bias);
    });
    REQUIRE_OK(flexq_generator_run(generator, nullptr, nullptr));
    return tokens_of(generator);
  };
  const std::vector<int32_t> free_choice = tokens_with([](flexq_sampling*) {});
  const std::set<int32_t> chosen(free_choice.begin(), free_choice.end());
  const std::vector<int32_t> without = tokens_with([&](flexq_sampling* sampling) {
    for (const int32_t token : chosen)
      REQUIRE_OK(flexq_sampling_set_logit_bias(sampling, token, kForbidden));
  });
  for (const int32_t token : without)
    CHECK(chosen.count(token) == 0);
  const std::vector<int32_t> forced = tokens_with([](flexq_sampling* sampling) {
    REQUIRE_OK(flexq_sampling_set_logit_bias(sampling, 300, kForbidden));  // replaced below
    REQUIRE_OK(flexq_sampling_set_logit_bias(sampling, 300, 1000.0f));
  });
  CHECK(forced == std::vector<int32_t>(10, 300));

  const auto run_with = [&](const std::function<void(flexq_sampling*)>& bias) {
    const Generator generator = started(
        context, kPrompt, [&](flexq_generator_options* options) { set_sampling(options, bias); });
    const flexq_status status = flexq_generator_run(generator, nullptr, nullptr);
    CHECK(stats_of(generator).finish_reason == FLEXQ_FINISH_ERROR);
    return status;
  };
  CHECK_ERROR(run_with([](flexq_sampling* sampling) {
                for (int32_t token = 0; token < 512; ++token)
                  flexq_sampling_set_logit_bias(sampling, token, kForbidden);
              }),
              "NON_FINITE", "forbidden");
  CHECK_ERROR(run_with([](flexq_sampling* sampling) {
                flexq_sampling_set_logit_bias(sampling, 512, 1.0f);
              }),
              "INVALID_ARGUMENT", "512");
}

TEST_CASE("stop strings end the text before them, wherever token borders lie") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  const auto run = [&](const std::vector<std::string>& stops) {
    Generator generator = started(context, kPrompt, [&](flexq_generator_options* options) {
      REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 60));
      for (const std::string& stop : stops) {
        REQUIRE_OK(flexq_generator_options_add_stop(options, stop.data(),
                                                    static_cast<int64_t>(stop.size())));
      }
    });
    const std::vector<RecordedEvent> events = push_all(generator);
    CHECK(joined_text(events) == text_of(generator));
    return generator;
  };
  const std::string text = text_of(run({}));
  REQUIRE(text.size() > 80);
  for (const size_t begin : {size_t{1}, size_t{20}, size_t{37}, text.size() - 6}) {
    const std::string stop = text.substr(begin, 6);
    CAPTURE(stop);
    const Generator generator = run({"never in the text", stop});
    CHECK(text_of(generator) == text.substr(0, text.find(stop)));
    CHECK(stats_of(generator).finish_reason == FLEXQ_FINISH_STOP);
  }
  CHECK(text_of(run({"never in the text"})) == text);
}

TEST_CASE("an answer in JSON is closed in time") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  for (const int32_t max_tokens : {2, 3, 20}) {
    const Generator generator = started(context, kPrompt, [&](flexq_generator_options* options) {
      REQUIRE_OK(flexq_generator_options_set_max_tokens(options, max_tokens));
      REQUIRE_OK(flexq_generator_options_set_format(options, "json"));
    });
    const std::vector<RecordedEvent> events = pull_all(generator);
    CHECK(events.back().finish_reason == FLEXQ_FINISH_STOP);
    CHECK(static_cast<int32_t>(events.size()) <= max_tokens + 1);
    const std::string text = joined_text(events);
    CAPTURE(text);
    CHECK(text == text_of(generator));
    CHECK(text[text.find_first_not_of(' ')] == '{');
    CHECK(text.back() == '}');
  }
  GeneratorOptions options;
  REQUIRE_OK(flexq_generator_options_create(options.out()));
  REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 1));
  REQUIRE_OK(flexq_generator_options_set_format(options, "json"));
  Generator generator;
  REQUIRE_OK(flexq_generator_create(context, options, generator.out()));
  CHECK_ERROR(start(generator, kPrompt), "INVALID_ARGUMENT", "at least 2 tokens, found 1");
}

TEST_CASE("a callback that returns non-zero stops the answer and nothing else") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  const std::vector<RecordedEvent> whole = push_all(started(context, kPrompt));
  const auto n_prompt = static_cast<int32_t>(encode(model, kPrompt).size());

  const Generator generator = started(context, kPrompt);
  std::vector<RecordedEvent> events;
  const flexq_token_callback stop_at_fifth = [](const flexq_token_event* event, void* user_data) {
    record_event(event, user_data);
    return static_cast<std::vector<RecordedEvent>*>(user_data)->size() == 5 ? 1 : 0;
  };
  CHECK_ERROR(flexq_generator_run(generator, stop_at_fifth, &events), "STOPPED_BY_CALLBACK",
              "callback");
  CHECK(events == std::vector<RecordedEvent>(whole.begin(), whole.begin() + 5));
  CHECK(text_of(generator) == joined_text(events));
  const flexq_generator_stats stats = stats_of(generator);
  CHECK(stats.finish_reason == FLEXQ_FINISH_CANCELLED);
  CHECK(stats.n_prompt_tokens == n_prompt);
  CHECK(stats.n_generated_tokens == 5);
  CHECK(stats.prefill_ns > 0);
  CHECK(stats.decode_ns > 0);
  CHECK(stats.time_to_first_token_ns >= stats.prefill_ns);
  CHECK(flexq_context_sequence_length(context, 0) == n_prompt + 4);

  // The answer goes on from there: its last token is the next prompt.
  const Generator rest = make_generator(context);
  const int32_t last = events.back().token;
  REQUIRE_OK(flexq_generator_start_tokens(rest, &last, 1));
  std::vector<RecordedEvent> more;
  REQUIRE_OK(flexq_generator_run(rest, record_event, &more));
  REQUIRE(more.size() > 10);
  for (size_t i = 0; i < 10; ++i)
    CHECK(more[i].token == whole[i + 5].token);
  CHECK(joined_text(events) + more[0].text + more[1].text ==
        joined_text({whole.begin(), whole.begin() + 7}));
}

TEST_CASE("generation ends where the context does") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model, [](flexq_context_options* options) {
    REQUIRE_OK(flexq_context_options_set_context_tokens(options, 24));
  });
  const Generator generator = started(context, kPrompt, [](flexq_generator_options* options) {
    REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 0));
    REQUIRE_OK(flexq_generator_options_set_ignore_end(options, 1));
  });
  const std::vector<RecordedEvent> events = push_all(generator);
  CHECK(events.back().finish_reason == FLEXQ_FINISH_LENGTH);
  CHECK(events[events.size() - 2].position == 23);

  REQUIRE_OK(flexq_context_rewind(context, 0, 0));
  const std::vector<int32_t> too_long(25, 5);
  const Generator refused = make_generator(context);
  CHECK_ERROR(flexq_generator_start_tokens(refused, too_long.data(), 25), "CONTEXT_FULL", "24");
  CHECK(flexq_generator_start_tokens(refused, too_long.data(), 24) == FLEXQ_OK);
}
