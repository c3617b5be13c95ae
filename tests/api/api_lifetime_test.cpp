// Handles released in any order, and by another thread in the middle of a call.
#include <thread>

#include "api/api_fixture.h"
#include "api/gate.h"
#include "support/test_data.h"

using namespace flexq::test;

namespace {

constexpr char kPrompt[] = "Once upon a time";

void limit_to_20(flexq_generator_options* options) {
  REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 20));
}

std::vector<RecordedEvent> reference_events() {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  const Generator generator = make_generator(context, limit_to_20);
  REQUIRE_OK(start(generator, kPrompt));
  std::vector<RecordedEvent> events;
  REQUIRE_OK(flexq_generator_run(generator, record_event, &events));
  return events;
}

// Pauses at the first call of a callback.
struct PausedRun {
  Pause pause;
  std::vector<RecordedEvent> events;
  int n_calls = 0;
  void pass_once() {
    if (++n_calls == 1) pause.pass();
  }
};

int32_t pause_at_event(const flexq_token_event* event, void* user_data) {
  auto* run = static_cast<PausedRun*>(user_data);
  run->pass_once();
  return record_event(event, &run->events);
}

int32_t pause_at_progress(int64_t, int64_t, void* user_data) {
  static_cast<PausedRun*>(user_data)->pass_once();
  return 0;
}

int32_t pause_at_window(int32_t, int32_t, double, void* user_data) {
  static_cast<PausedRun*>(user_data)->pass_once();
  return 0;
}

// Runs call() on a thread until it pauses, then release() here, and gives call()'s status.
template <typename Call, typename Release>
flexq_status release_in_the_middle(PausedRun& run, Call call, Release release) {
  flexq_status status = FLEXQ_ERROR_INTERNAL;
  std::thread thread([&] { status = call(); });
  run.pause.inside.wait();
  release();
  run.pause.go_on.open();
  thread.join();
  return status;
}

}  // namespace

TEST_CASE("handles keep alive what they depend on") {
  const std::vector<RecordedEvent> expected = reference_events();
  Source source = open_source(stories_bundle());
  Model model;
  REQUIRE_OK(flexq_model_load(source, nullptr, model.out()));
  source.reset();
  Tokenizer tokenizer;
  REQUIRE_OK(flexq_model_tokenizer(model, tokenizer.out()));
  Context context = make_context(model);
  Generator generator = make_generator(context, limit_to_20);
  model.reset();
  context.reset();
  REQUIRE_OK(start(generator, kPrompt));
  std::vector<RecordedEvent> events;
  REQUIRE_OK(flexq_generator_run(generator, record_event, &events));
  CHECK(events == expected);
  generator.reset();

  int32_t tokens[32];
  int32_t n_tokens = 0;
  REQUIRE_OK(flexq_tokenizer_encode(tokenizer, kPrompt, sizeof kPrompt - 1, FLEXQ_ENCODE_DEFAULT,
                                    tokens, 32, &n_tokens));
  CHECK(n_tokens > 1);

  // A bundle outlives its source.
  source = open_source(stories_bundle());
  Bundle bundle;
  REQUIRE_OK(flexq_bundle_open(source, bundle.out()));
  source.reset();
  CHECK(flexq_bundle_verify(bundle, 2, nullptr, nullptr) == FLEXQ_OK);
}

TEST_CASE("everything released while a generator runs on another thread") {
  const std::vector<RecordedEvent> expected = reference_events();
  Model model = load_model(stories_bundle());
  Context context = make_context(model);
  Generator generator = make_generator(context, limit_to_20);
  REQUIRE_OK(start(generator, kPrompt));
  PausedRun run;
  flexq_generator* const running = generator.get();
  const flexq_status status = release_in_the_middle(
      run, [&] { return flexq_generator_run(running, pause_at_event, &run); },
      [&] {
        generator.reset();
        context.reset();
        model.reset();
      });
  CHECK(status == FLEXQ_OK);
  CHECK(run.events == expected);
}

TEST_CASE("a source released while a model is loaded from it") {
  Source source = open_source(stories_bundle());
  PausedRun run;
  ModelOptions options;
  REQUIRE_OK(flexq_model_options_create(options.out()));
  REQUIRE_OK(flexq_model_options_set_progress(options, pause_at_progress, &run));
  flexq_source* const loading = source.get();
  const flexq_model_options* const used = options.get();
  Model model;
  const flexq_status status = release_in_the_middle(
      run, [&] { return flexq_model_load(loading, used, model.out()); }, [&] { source.reset(); });
  CHECK(status == FLEXQ_OK);
  CHECK(flexq_model_tensor_count(model) > 0);
}

TEST_CASE("a context released while it scores") {
  Model model = load_model(stories_bundle());
  Context context = make_context(model, [](flexq_context_options* o) {
    REQUIRE_OK(flexq_context_options_set_chunk_tokens(o, 4));
  });
  const std::vector<int32_t> tokens = encode(model, "Lily went to the park to play.");
  std::vector<float> log_probs(tokens.size() - 1);
  PausedRun run;
  flexq_context* const scoring = context.get();
  const flexq_status status = release_in_the_middle(
      run,
      [&] {
        return flexq_context_score(scoring, tokens.data(), static_cast<int32_t>(tokens.size()),
                                   log_probs.data(), pause_at_progress, &run);
      },
      [&] {
        context.reset();
        model.reset();
      });
  CHECK(status == FLEXQ_OK);
  CHECK(run.n_calls > 1);
  for (const float log_prob : log_probs)
    CHECK(log_prob < 0);
}

TEST_CASE("models and questions released while choices are scored and models compared") {
  Model model = load_model(stories_bundle());
  Questions questions;
  REQUIRE_OK(flexq_questions_open("piqa", source_path("tests/data/choice/piqa.jsonl").c_str(),
                                  questions.out()));
  PausedRun choices;
  flexq_choice_result choice = {};
  choice.struct_size = sizeof choice;
  const flexq_model* const asked = model.get();
  const flexq_questions* const read = questions.get();
  CHECK(release_in_the_middle(
            choices,
            [&] {
              return flexq_evaluate_choices(asked, nullptr, read, 1, 0, pause_at_progress, nullptr,
                                            &choices, &choice);
            },
            [&] {
              model.reset();
              questions.reset();
            }) == FLEXQ_OK);
  CHECK(choice.n_questions == 4);

  const std::string text = file_bytes(source_path("samples/data/stories260k/greedy.txt"));
  Model a = load_model(stories_bundle());
  Model b = load_model(stories_checkpoint());
  PausedRun comparison;
  flexq_comparison_result result = {};
  result.struct_size = sizeof result;
  const flexq_model* const compared[] = {a.get(), b.get()};
  CHECK(release_in_the_middle(
            comparison,
            [&] {
              return flexq_evaluate_comparison(compared[0], compared[1], nullptr, text.data(),
                                               static_cast<int64_t>(text.size()), 32, 0,
                                               pause_at_progress, &comparison, &result);
            },
            [&] {
              a.reset();
              b.reset();
            }) == FLEXQ_OK);
  CHECK(result.mean_kl > 0);
}

TEST_CASE("a model released while it is evaluated, a bundle while it is verified") {
  const std::string text = file_bytes(source_path("samples/data/stories260k/greedy.txt"));
  Model model = load_model(stories_bundle());
  PausedRun windows;
  flexq_perplexity_result result = {};
  result.struct_size = sizeof result;
  const flexq_model* const evaluated = model.get();
  CHECK(release_in_the_middle(
            windows,
            [&] {
              return flexq_evaluate_perplexity(evaluated, nullptr, text.data(),
                                               static_cast<int64_t>(text.size()), 32, 0,
                                               pause_at_window, &windows, &result);
            },
            [&] { model.reset(); }) == FLEXQ_OK);
  CHECK(result.perplexity > 1);

  Source source = open_source(stories_bundle());
  Bundle bundle;
  REQUIRE_OK(flexq_bundle_open(source, bundle.out()));
  PausedRun verify;
  const flexq_bundle* const verified = bundle.get();
  CHECK(release_in_the_middle(
            verify, [&] { return flexq_bundle_verify(verified, 2, pause_at_progress, &verify); },
            [&] {
              bundle.reset();
              source.reset();
            }) == FLEXQ_OK);
}
