// Every pointer that must not be NULL, every index and count of a call.
#include <sys/mman.h>

#include <cmath>
#include <limits>

#include "api/api_fixture.h"
#include "support/test_data.h"

using namespace flexq::test;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kMax = INT32_MAX;

}  // namespace

TEST_CASE("releasing NULL does nothing") {
  flexq_source_release(nullptr);
  flexq_model_options_release(nullptr);
  flexq_model_release(nullptr);
  flexq_tokenizer_release(nullptr);
  flexq_context_options_release(nullptr);
  flexq_context_release(nullptr);
  flexq_batch_release(nullptr);
  flexq_sampling_release(nullptr);
  flexq_generator_options_release(nullptr);
  flexq_generator_release(nullptr);
  flexq_quantize_options_release(nullptr);
  flexq_bundle_release(nullptr);
  flexq_continuations_release(nullptr);
  flexq_questions_release(nullptr);
}

TEST_CASE("functions without a status take NULL") {
  flexq_batch_cancel(nullptr);
  flexq_generator_cancel(nullptr);
  CHECK(flexq_model_tensor_count(nullptr) == 0);
  CHECK(flexq_model_is_end_token(nullptr, 2) == 0);
  CHECK(flexq_tokenizer_vocab_size(nullptr) == 0);
  CHECK(flexq_context_output_count(nullptr) == 0);
  CHECK(flexq_context_sequence_length(nullptr, 0) == -1);
  CHECK(flexq_questions_count(nullptr) == 0);
}

TEST_CASE("null arguments: sources, models, tokenizers") {
  Source source = open_source(tiny_bundle());
  const Model model = load_model(tiny_bundle());
  Tokenizer tokenizer;
  REQUIRE_OK(flexq_model_tokenizer(model, tokenizer.out()));
  ModelOptions options;
  REQUIRE_OK(flexq_model_options_create(options.out()));
  const flexq_read_callback read = [](int64_t, void*, int64_t, void*) { return 1; };

  CHECK_INVALID(flexq_source_open(nullptr, source.out()), "path");
  CHECK_INVALID(flexq_source_open("/", nullptr), "source");
  CHECK_INVALID(flexq_source_require_key(nullptr, "", 0), "source");
  CHECK_INVALID(flexq_source_from_memory(nullptr, 0, source.out()), "bytes");
  CHECK_INVALID(flexq_source_from_memory("x", 1, nullptr), "source");
  CHECK_INVALID(flexq_source_from_memory("x", -1, source.out()), "n_bytes");
  CHECK_INVALID(flexq_source_from_callback(1, nullptr, nullptr, source.out()), "read");
  CHECK_INVALID(flexq_source_from_callback(1, read, nullptr, nullptr), "source");
  CHECK_INVALID(flexq_source_from_callback(-1, read, nullptr, source.out()), "size_bytes");
  CHECK(source.get() == nullptr);
  source = open_source(tiny_bundle());

  CHECK_INVALID(flexq_model_options_create(nullptr), "options");
  CHECK_INVALID(flexq_model_options_set_device(nullptr, "cpu"), "options");
  CHECK_INVALID(flexq_model_options_set_device(options, nullptr), "device");
  CHECK_INVALID(flexq_model_options_set_threads(nullptr, 1), "options");
  CHECK_INVALID(flexq_model_options_set_progress(nullptr, nullptr, nullptr), "options");
  CHECK_INVALID(flexq_model_options_set(nullptr, "cpu.kernels", "auto"), "options");
  CHECK_INVALID(flexq_model_options_set(options, nullptr, "auto"), "key");
  CHECK_INVALID(flexq_model_options_set(options, "cpu.kernels", nullptr), "value");

  Model other;
  CHECK_INVALID(flexq_model_load(nullptr, nullptr, other.out()), "source");
  CHECK_INVALID(flexq_model_load(source, nullptr, nullptr), "model");
  flexq_plan plan = {};
  plan.struct_size = sizeof plan;
  CHECK_INVALID(flexq_model_plan(nullptr, nullptr, nullptr, 0, &plan), "source");
  CHECK_INVALID(flexq_model_plan(source, nullptr, nullptr, 0, nullptr), "plan");
  CHECK_INVALID(flexq_model_plan(source, nullptr, nullptr, 1, &plan), "device_index");
  CHECK_INVALID(flexq_model_plan(source, nullptr, nullptr, -1, &plan), "device_index");
  flexq_model_info info = {};
  info.struct_size = sizeof info;
  CHECK_INVALID(flexq_model_get_info(nullptr, &info), "model");
  CHECK_INVALID(flexq_model_get_info(model, nullptr), "info");
  flexq_tensor_info tensor = {};
  tensor.struct_size = sizeof tensor;
  CHECK_INVALID(flexq_model_get_tensor_info(nullptr, 0, &tensor), "model");
  CHECK_INVALID(flexq_model_get_tensor_info(model, 0, nullptr), "info");
  CHECK_INVALID(flexq_model_get_tensor_info(model, -1, &tensor), "tensor index");
  const int32_t n_tensors = flexq_model_tensor_count(model);
  CHECK_INVALID(flexq_model_get_tensor_info(model, n_tensors, &tensor), "tensor index");
  CHECK(flexq_model_get_tensor_info(model, n_tensors - 1, &tensor) == FLEXQ_OK);
  CHECK(flexq_model_is_end_token(model, 2) == 1);
  for (const int32_t token : {1, 3, -1, kMax})
    CHECK(flexq_model_is_end_token(model, token) == 0);

  flexq_device_info device = {};
  device.struct_size = sizeof device;
  CHECK_INVALID(flexq_device_get_info(0, nullptr), "info");
  CHECK_INVALID(flexq_device_get_info(-1, &device), "device index");
  CHECK_INVALID(flexq_device_get_info(flexq_device_count(), &device), "device index");

  int32_t token = 0;
  int32_t n = 0;
  int64_t n_bytes = 0;
  char byte = 0;
  Tokenizer opened;
  CHECK_INVALID(flexq_tokenizer_open(nullptr, opened.out()), "source");
  CHECK_INVALID(flexq_tokenizer_open(source, nullptr), "tokenizer");
  CHECK_INVALID(flexq_model_tokenizer(nullptr, opened.out()), "model");
  CHECK_INVALID(flexq_model_tokenizer(model, nullptr), "tokenizer");
  CHECK_INVALID(flexq_tokenizer_encode(nullptr, "a", 1, 0, &token, 1, &n), "tokenizer");
  CHECK_INVALID(flexq_tokenizer_encode(tokenizer, nullptr, 1, 0, &token, 1, &n), "text");
  CHECK_INVALID(flexq_tokenizer_encode(tokenizer, "a", -1, 0, &token, 1, &n), "text");
  CHECK_INVALID(flexq_tokenizer_encode(tokenizer, "a", 1, 4, &token, 1, &n), "flags");
  CHECK_INVALID(flexq_tokenizer_encode(tokenizer, "a", 1, -1, &token, 1, &n), "flags");
  CHECK_INVALID(flexq_tokenizer_decode(nullptr, &token, 1, &byte, 1, &n_bytes), "tokenizer");
  CHECK_INVALID(flexq_tokenizer_decode(tokenizer, nullptr, 1, &byte, 1, &n_bytes), "tokens");
  CHECK_INVALID(flexq_tokenizer_decode(tokenizer, &token, -1, &byte, 1, &n_bytes), "n_tokens");
  for (const int32_t outside : {-1, flexq_tokenizer_vocab_size(tokenizer), kMax}) {
    CHECK_INVALID(flexq_tokenizer_decode(tokenizer, &outside, 1, &byte, 1, &n_bytes), "token");
    CHECK_INVALID(flexq_tokenizer_token_bytes(tokenizer, outside, &byte, 1, &n_bytes), "token");
  }
  CHECK_INVALID(flexq_tokenizer_token_bytes(nullptr, 0, &byte, 1, &n_bytes), "tokenizer");
}

TEST_CASE("null arguments and ranges: contexts and batches") {
  const Model model = load_model(tiny_bundle());
  const Context context = make_context(model);
  Batch batch;
  REQUIRE_OK(flexq_batch_create(batch.out()));
  const int32_t token = 5;
  float log_prob = 0;
  const float* row = nullptr;

  Context other;
  CHECK_INVALID(flexq_context_options_create(nullptr), "options");
  CHECK_INVALID(flexq_context_options_set(nullptr, "poison", "on"), "options");
  CHECK_INVALID(flexq_context_create(nullptr, nullptr, other.out()), "model");
  CHECK_INVALID(flexq_context_create(model, nullptr, nullptr), "context");
  flexq_plan plan = {};
  plan.struct_size = sizeof plan;
  CHECK_INVALID(flexq_context_get_plan(nullptr, &plan), "context");
  CHECK_INVALID(flexq_context_get_plan(context, nullptr), "info");
  flexq_context_counters counters = {};
  counters.struct_size = sizeof counters;
  CHECK_INVALID(flexq_context_get_counters(nullptr, &counters), "context");
  CHECK_INVALID(flexq_context_get_counters(context, nullptr), "info");

  CHECK_INVALID(flexq_batch_create(nullptr), "batch");
  CHECK_INVALID(flexq_batch_clear(nullptr), "batch");
  CHECK_INVALID(flexq_batch_add(nullptr, 0, &token, 1, FLEXQ_OUTPUT_LAST), "batch");
  CHECK_INVALID(flexq_batch_add(batch, 0, nullptr, 1, FLEXQ_OUTPUT_LAST), "tokens");
  CHECK_INVALID(flexq_batch_add(batch, -1, &token, 1, FLEXQ_OUTPUT_LAST), "sequence");
  CHECK_INVALID(flexq_batch_add(batch, 0, &token, 0, FLEXQ_OUTPUT_LAST), "n_tokens");
  CHECK_INVALID(flexq_batch_add(batch, 0, &token, -1, FLEXQ_OUTPUT_LAST), "n_tokens");
  CHECK_INVALID(flexq_batch_add(batch, 0, &token, 1, 3), "output");
  CHECK_INVALID(flexq_batch_add(batch, 0, &token, 1, -1), "output");
  CHECK_INVALID(flexq_context_decode(context, batch), "at least one token");
  CHECK_INVALID(flexq_context_decode(nullptr, batch), "context");
  CHECK_INVALID(flexq_context_decode(context, nullptr), "batch");
  const auto decode_refuses = [&](int32_t sequence, int32_t id, const char* text) {
    REQUIRE_OK(flexq_batch_clear(batch));
    REQUIRE_OK(flexq_batch_add(batch, sequence, &id, 1, FLEXQ_OUTPUT_LAST));
    CHECK_INVALID(flexq_context_decode(context, batch), text);
  };
  decode_refuses(1, 5, "sequence");
  decode_refuses(kMax, 5, "sequence");
  decode_refuses(0, -1, "token");
  decode_refuses(0, 320, "token");
  REQUIRE_OK(flexq_batch_clear(batch));
  REQUIRE_OK(flexq_batch_add(batch, 0, &token, 1, FLEXQ_OUTPUT_NONE));
  REQUIRE_OK(flexq_batch_add(batch, 0, &token, 1, FLEXQ_OUTPUT_NONE));
  CHECK_INVALID(flexq_context_decode(context, batch), "twice");
  REQUIRE_OK(flexq_batch_clear(batch));
  const int32_t two[] = {5, 6};
  REQUIRE_OK(flexq_batch_add(batch, 0, two, 2, FLEXQ_OUTPUT_ALL));
  CHECK_INVALID(flexq_context_decode(context, batch), "output rows");
  CHECK(flexq_context_sequence_length(context, 0) == 0);

  CHECK(flexq_context_output_count(context) == 0);
  CHECK_INVALID(flexq_context_logits(context, 0, &row, nullptr), "output row");
  REQUIRE_OK(flexq_batch_clear(batch));
  REQUIRE_OK(flexq_batch_add(batch, 0, two, 2, FLEXQ_OUTPUT_LAST));
  REQUIRE_OK(flexq_context_decode(context, batch));
  CHECK(flexq_context_output_count(context) == 1);
  CHECK(flexq_context_logits(context, 0, &row, nullptr) == FLEXQ_OK);
  CHECK(flexq_context_embedding(context, 0, &row, nullptr) == FLEXQ_OK);
  CHECK_INVALID(flexq_context_logits(nullptr, 0, &row, nullptr), "context");
  CHECK_INVALID(flexq_context_logits(context, 0, nullptr, nullptr), "logits");
  CHECK_INVALID(flexq_context_embedding(nullptr, 0, &row, nullptr), "context");
  CHECK_INVALID(flexq_context_embedding(context, 0, nullptr, nullptr), "embedding");
  for (const int32_t outside : {-1, 1, kMax}) {
    CHECK_INVALID(flexq_context_logits(context, outside, &row, nullptr), "output row");
    CHECK_INVALID(flexq_context_embedding(context, outside, &row, nullptr), "output row");
    CHECK_INVALID(flexq_context_rewind(context, outside, 0), "sequence");
    CHECK_INVALID(flexq_context_fork(context, outside, 0), "sequence");
    CHECK_INVALID(flexq_context_fork(context, 0, outside), "sequence");
    CHECK(flexq_context_sequence_length(context, outside) == -1);
  }
  CHECK_INVALID(flexq_context_rewind(nullptr, 0, 0), "context");
  CHECK_INVALID(flexq_context_rewind(context, 0, 3), "tokens");
  CHECK_INVALID(flexq_context_rewind(context, 0, -1), "tokens");
  CHECK_INVALID(flexq_context_fork(nullptr, 0, 0), "context");
  CHECK_INVALID(flexq_context_score(nullptr, two, 2, &log_prob, nullptr, nullptr), "context");
  CHECK_INVALID(flexq_context_score(context, nullptr, 2, &log_prob, nullptr, nullptr), "tokens");
  CHECK_INVALID(flexq_context_score(context, two, 2, nullptr, nullptr, nullptr), "log_probs");
  CHECK_INVALID(flexq_context_score(context, two, 1, &log_prob, nullptr, nullptr), "n_tokens");
  CHECK_ERROR(flexq_context_score(context, two, 2, &log_prob, nullptr, nullptr), "INVALID_STATE",
              "empty");
  CHECK(flexq_context_sequence_length(context, 0) == 2);
}

TEST_CASE("null arguments: generators, bundles, evaluation") {
  const Model model = load_model(tiny_bundle());
  const Context context = make_context(model);
  const Source source = open_source(tiny_bundle());
  GeneratorOptions options;
  REQUIRE_OK(flexq_generator_options_create(options.out()));
  Sampling sampling;
  REQUIRE_OK(flexq_sampling_create(sampling.out()));
  const int32_t token = 5;
  int32_t n = 0;
  int64_t n_bytes = 0;

  CHECK_INVALID(flexq_generator_options_create(nullptr), "options");
  CHECK_INVALID(flexq_generator_options_set_sampling(nullptr, sampling), "options");
  CHECK_INVALID(flexq_generator_options_set_sampling(options, nullptr), "sampling");
  CHECK_INVALID(flexq_generator_options_add_stop(nullptr, "a", 1), "options");
  CHECK_INVALID(flexq_generator_options_add_stop(options, nullptr, 1), "stop string");
  CHECK_INVALID(flexq_generator_options_add_stop(options, "a", -1), "stop string");
  Generator generator;
  CHECK_INVALID(flexq_generator_create(nullptr, nullptr, generator.out()), "context");
  CHECK_INVALID(flexq_generator_create(context, nullptr, nullptr), "generator");
  REQUIRE_OK(flexq_generator_options_set_sequence(options, 1));
  CHECK_INVALID(flexq_generator_create(context, options, generator.out()), "sequence");

  generator = make_generator(context);
  CHECK_INVALID(flexq_generator_start(nullptr, "a", 1, 0), "generator");
  CHECK_INVALID(flexq_generator_start(generator, nullptr, 1, 0), "prompt");
  CHECK_INVALID(flexq_generator_start(generator, "a", -1, 0), "prompt");
  CHECK_INVALID(flexq_generator_start(generator, "a", 1, 8), "flags");
  CHECK_INVALID(flexq_generator_start(generator, "", 0, FLEXQ_ENCODE_PLAIN), "at least one token");
  CHECK_INVALID(flexq_generator_start_tokens(nullptr, &token, 1), "generator");
  CHECK_INVALID(flexq_generator_start_tokens(generator, nullptr, 1), "tokens");
  CHECK_INVALID(flexq_generator_start_tokens(generator, &token, -1), "n_tokens");
  CHECK_INVALID(flexq_generator_start_tokens(generator, nullptr, 0), "at least one token");
  for (const int32_t outside : {-1, 320, kMax})
    CHECK_INVALID(flexq_generator_start_tokens(generator, &outside, 1), "prompt token");
  flexq_token_event event = {};
  event.struct_size = sizeof event;
  CHECK_INVALID(flexq_generator_next(nullptr, &event), "generator");
  CHECK_INVALID(flexq_generator_next(generator, nullptr), "event");
  CHECK_INVALID(flexq_generator_run(nullptr, nullptr, nullptr), "generator");
  flexq_generator_stats stats = {};
  stats.struct_size = sizeof stats;
  CHECK_INVALID(flexq_generator_get_stats(nullptr, &stats), "generator");
  CHECK_INVALID(flexq_generator_get_stats(generator, nullptr), "info");
  CHECK_INVALID(flexq_generator_prompt_tokens(nullptr, nullptr, 0, &n), "generator");
  CHECK_INVALID(flexq_generator_tokens(nullptr, nullptr, 0, &n), "generator");
  CHECK_INVALID(flexq_generator_text(nullptr, nullptr, 0, &n_bytes), "generator");

  QuantizeOptions quantize;
  REQUIRE_OK(flexq_quantize_options_create(quantize.out()));
  CHECK_INVALID(flexq_quantize_options_create(nullptr), "options");
  CHECK_INVALID(flexq_quantize_options_set_policy(nullptr, "flexq"), "options");
  CHECK_INVALID(flexq_quantize_options_set_policy(quantize, nullptr), "policy");
  CHECK_ERROR(flexq_quantize_options_set_policy(quantize, "w5a5"), "UNSUPPORTED_VALUE", "w5a5");
  CHECK_INVALID(flexq_quantize_options_set_threads(nullptr, 1), "options");
  CHECK_INVALID(flexq_quantize_options_set_calibration(nullptr, "a", 1), "options");
  CHECK_INVALID(flexq_quantize_options_set_calibration(quantize, nullptr, 1), "text");
  CHECK_INVALID(flexq_quantize_options_set_calibration(quantize, "a", -1), "text");
  CHECK_INVALID(flexq_quantize_options_set_perplexity_budget(nullptr, 0.1), "options");
  CHECK_INVALID(flexq_quantize_options_set_perplexity_budget(quantize, -0.1), "budget");
  CHECK_INVALID(flexq_quantize_options_set_perplexity_budget(quantize, NAN), "budget");
  CHECK_INVALID(flexq_quantize_options_set_a8_fraction(nullptr, 0.1), "options");
  CHECK_INVALID(flexq_quantize_options_set_a8_fraction(quantize, 1.1), "fraction");
  CHECK_INVALID(flexq_quantize_options_set_a8_fraction(quantize, NAN), "fraction");
  CHECK_ERROR(flexq_quantize_options_set(quantize, "scale_search", "best"), "UNSUPPORTED_VALUE",
              "auto, none, error or weighted");
  CHECK_ERROR(flexq_quantize_options_set(quantize, "equalization", "always"), "UNSUPPORTED_VALUE",
              "auto, on or none");
  CHECK_ERROR(flexq_quantize_options_set(quantize, "calibration_windows", "3"), "UNSUPPORTED_VALUE",
              "4 to 4096");
  CHECK_ERROR(flexq_quantize_options_set(quantize, "force", "yes"), "UNSUPPORTED_VALUE", "0 or 1");
  CHECK_INVALID(flexq_quantize_options_set_progress(nullptr, nullptr, nullptr), "options");
  CHECK_INVALID(flexq_quantize(nullptr, "/tmp/x.flexq", nullptr), "checkpoint_directory");
  CHECK_INVALID(flexq_quantize("/", nullptr, nullptr), "output_path");
  Bundle bundle;
  CHECK_INVALID(flexq_bundle_open(nullptr, bundle.out()), "source");
  CHECK_INVALID(flexq_bundle_open(source, nullptr), "bundle");
  CHECK_INVALID(flexq_bundle_open(open_source(stories_checkpoint()), bundle.out()), "folder");
  CHECK_INVALID(flexq_bundle_json(nullptr, nullptr, 0, &n_bytes), "bundle");
  CHECK_INVALID(flexq_bundle_verify(nullptr, 1, nullptr, nullptr), "bundle");
  CHECK_INVALID(flexq_bundle_signer(nullptr, nullptr, 0, &n_bytes), "bundle");
  CHECK_INVALID(flexq_bundle_sign(nullptr, "", 0, 1, nullptr, nullptr), "path");
  CHECK_INVALID(flexq_bundle_sign("/", nullptr, 0, 1, nullptr, nullptr), "pem");
  CHECK_INVALID(flexq_bundle_sign("/", "", -1, 1, nullptr, nullptr), "pem");
  CHECK_INVALID(flexq_bundle_sign("/", "", 0, -1, nullptr, nullptr), "n_threads");

  flexq_perplexity_result result = {};
  result.struct_size = sizeof result;
  const auto perplexity = [&](const flexq_model* of, const char* text, int64_t text_bytes,
                              int32_t window, int32_t max_windows, flexq_perplexity_result* out) {
    return flexq_evaluate_perplexity(of, nullptr, text, text_bytes, window, max_windows, nullptr,
                                     nullptr, out);
  };
  CHECK_INVALID(perplexity(nullptr, "a", 1, 2, 0, &result), "model");
  CHECK_INVALID(perplexity(model, nullptr, 1, 2, 0, &result), "text");
  CHECK_INVALID(perplexity(model, "a", -1, 2, 0, &result), "text");
  CHECK_INVALID(perplexity(model, "a", 1, 1, 0, &result), "window");
  CHECK_INVALID(perplexity(model, "a", 1, 129, 0, &result), "window");
  CHECK_INVALID(perplexity(model, "a", 1, 2, -1, &result), "max_windows");
  CHECK_INVALID(perplexity(model, "a", 1, 128, 0, &result), "at least one window");
  CHECK_INVALID(perplexity(model, "a", 1, 2, 0, nullptr), "result");
}

TEST_CASE("null arguments and ranges: continuations, questions and comparisons") {
  const Model model = load_model(tiny_bundle());
  const Context context = make_context(model);
  const int32_t tokens[] = {5, 6};
  double score = 1;
  Continuations list;
  CHECK_INVALID(flexq_continuations_create(nullptr), "continuations");
  REQUIRE_OK(flexq_continuations_create(list.out()));
  CHECK_INVALID(flexq_continuations_clear(nullptr), "continuations");
  CHECK_INVALID(flexq_continuations_add(nullptr, tokens, 1, tokens, 1), "continuations");
  CHECK_INVALID(flexq_continuations_add(list, nullptr, 1, tokens, 1), "context_tokens");
  CHECK_INVALID(flexq_continuations_add(list, tokens, 1, nullptr, 1), "tokens");
  CHECK_INVALID(flexq_continuations_add(list, tokens, 0, tokens, 1), "n_context");
  CHECK_INVALID(flexq_continuations_add(list, tokens, -1, tokens, 1), "n_context");
  CHECK_INVALID(flexq_continuations_add(list, tokens, 1, tokens, 0), "n_tokens");
  CHECK_INVALID(flexq_continuations_add(list, tokens, 2, tokens, kMax - 1), "n_tokens");
  const auto scoring = [&](flexq_context* on, const flexq_continuations* of, double* scores) {
    return flexq_context_score_continuations(on, of, scores, nullptr, nullptr);
  };
  CHECK_INVALID(scoring(nullptr, list, &score), "context");
  CHECK_INVALID(scoring(context, nullptr, &score), "continuations");
  CHECK_INVALID(scoring(context, list, nullptr), "scores");
  REQUIRE_OK(scoring(context, list, &score));  // none to score
  for (const int32_t outside : {-1, 320, kMax}) {
    for (const bool is_target : {false, true}) {
      REQUIRE_OK(flexq_continuations_clear(list));
      REQUIRE_OK(flexq_continuations_add(list, is_target ? tokens : &outside, 1,
                                         is_target ? &outside : tokens, 1));
      CHECK_INVALID(scoring(context, list, &score), "token");
    }
  }
  const std::vector<int32_t> many(200, 5);
  REQUIRE_OK(flexq_continuations_clear(list));
  REQUIRE_OK(flexq_continuations_add(list, many.data(), 28, many.data(), 102));
  CHECK_ERROR(scoring(context, list, &score), "CONTEXT_FULL", "128");
  REQUIRE_OK(flexq_continuations_clear(list));
  REQUIRE_OK(flexq_continuations_add(list, many.data(), 28, many.data(), 101));
  CHECK(score == 1);
  REQUIRE_OK(scoring(context, list, &score));
  CHECK(score < 0);
  last_logits(context, 0, {5});
  CHECK_ERROR(scoring(context, list, &score), "INVALID_STATE", "empty");

  Questions questions;
  const std::string path = source_path("tests/data/choice/piqa.jsonl");
  CHECK_INVALID(flexq_questions_open(nullptr, path.c_str(), questions.out()), "task");
  CHECK_INVALID(flexq_questions_open("piqa", nullptr, questions.out()), "path");
  CHECK_INVALID(flexq_questions_open("piqa", path.c_str(), nullptr), "questions");
  CHECK_ERROR(flexq_questions_open("arc-easy", path.c_str(), questions.out()), "UNSUPPORTED_VALUE",
              "arc-easy");
  CHECK_ERROR(flexq_questions_open("piqa", (path + "l").c_str(), questions.out()), "NOT_FOUND",
              "piqa.jsonll");
  CHECK_ERROR(flexq_questions_open("boolq", path.c_str(), questions.out()), "CORRUPT", "line 1");
  CHECK(questions.get() == nullptr);
  REQUIRE_OK(flexq_questions_open("piqa", path.c_str(), questions.out()));
  flexq_choice_result choice = {};
  choice.struct_size = sizeof choice;
  const auto choices = [](const flexq_model* of, const flexq_questions* asked, int32_t batch,
                          int32_t max_questions, flexq_choice_result* out) {
    return flexq_evaluate_choices(of, nullptr, asked, batch, max_questions, nullptr, nullptr,
                                  nullptr, out);
  };
  CHECK_INVALID(choices(nullptr, questions, 0, 0, &choice), "model");
  CHECK_INVALID(choices(model, nullptr, 0, 0, &choice), "questions");
  CHECK_INVALID(choices(model, questions, -1, 0, &choice), "batch_size");
  CHECK_INVALID(choices(model, questions, 4097, 0, &choice), "batch_size");
  CHECK_INVALID(choices(model, questions, 0, -1, &choice), "max_questions");
  CHECK_INVALID(choices(model, questions, 0, 0, nullptr), "info");
  CHECK(choice.n_questions == 0);

  flexq_comparison_result compared = {};
  compared.struct_size = sizeof compared;
  const auto comparison = [&](const flexq_model* a, const flexq_model* b, const char* text,
                              int64_t text_bytes, int32_t window, int32_t max_windows,
                              flexq_comparison_result* out) {
    return flexq_evaluate_comparison(a, b, nullptr, text, text_bytes, window, max_windows, nullptr,
                                     nullptr, out);
  };
  CHECK_INVALID(comparison(nullptr, model, "a", 1, 2, 0, &compared), "model_a");
  CHECK_INVALID(comparison(model, nullptr, "a", 1, 2, 0, &compared), "model_b");
  CHECK_INVALID(comparison(model, model, nullptr, 1, 2, 0, &compared), "text");
  CHECK_INVALID(comparison(model, model, "a", -1, 2, 0, &compared), "text");
  CHECK_INVALID(comparison(model, model, "a", 1, 1, 0, &compared), "window");
  CHECK_INVALID(comparison(model, model, "a", 1, 129, 0, &compared), "window");
  CHECK_INVALID(comparison(model, model, "a", 1, 2, -1, &compared), "max_windows");
  CHECK_INVALID(comparison(model, model, "a", 1, 128, 0, &compared), "at least one window");
  CHECK_INVALID(comparison(model, model, "a", 1, 2, 0, nullptr), "info");
  CHECK_INVALID(comparison(model, load_model(stories_bundle()), "a", 1, 2, 0, &compared),
                "vocabulary");
}

TEST_CASE("sampling by hand checks its arguments") {
  Sampling s;
  REQUIRE_OK(flexq_sampling_create(s.out()));
  const float logits[] = {0.0f, 2.0f, 1.0f};
  const int32_t history[] = {1};
  int32_t token = -1;
  CHECK_INVALID(flexq_sampling_sample(nullptr, logits, 3, nullptr, 0, 0, &token, nullptr),
                "sampling");
  CHECK_INVALID(flexq_sampling_sample(s, nullptr, 3, nullptr, 0, 0, &token, nullptr), "logits");
  CHECK_INVALID(flexq_sampling_sample(s, logits, 0, nullptr, 0, 0, &token, nullptr), "n_vocab");
  CHECK_INVALID(flexq_sampling_sample(s, logits, 3, nullptr, 1, 0, &token, nullptr), "history");
  CHECK_INVALID(flexq_sampling_sample(s, logits, 3, history, -1, 0, &token, nullptr), "n_history");
  CHECK_INVALID(flexq_sampling_sample(s, logits, 3, history, 1, -1, &token, nullptr), "position");
  CHECK_INVALID(flexq_sampling_sample(s, logits, 3, history, 1, 0, nullptr, nullptr), "token");
  CHECK(token == -1);
  float log_prob = 1;
  CHECK(flexq_sampling_sample(s, logits, 3, history, 1, 0, &token, &log_prob) == FLEXQ_OK);
  CHECK(token == 1);
  CHECK(log_prob == doctest::Approx(log_softmax(logits, 3, 1)));
  REQUIRE_OK(flexq_sampling_set_temperature(s, 1));
  REQUIRE_OK(flexq_sampling_set_top_p(s, 0));  // keeps the most probable one
  CHECK(flexq_sampling_sample(s, logits, 3, nullptr, 0, 7, &token, nullptr) == FLEXQ_OK);
  CHECK(token == 1);
  for (const float bad : {kNan, kInfinity}) {
    const float broken[] = {0.0f, bad};
    CHECK_ERROR(flexq_sampling_sample(s, broken, 2, nullptr, 0, 0, &token, nullptr), "NON_FINITE",
                "logit");
  }
}

TEST_CASE("a text beyond the limit is refused before it is read") {
  // Address space without memory behind it.
  constexpr int64_t kTooLong = (int64_t{1} << 28) + 1;
  void* const room =
      mmap(nullptr, kTooLong, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(room != MAP_FAILED);
  const char* const text = static_cast<const char*>(room);
  const Model model = load_model(tiny_bundle());
  Tokenizer tokenizer;
  REQUIRE_OK(flexq_model_tokenizer(model, tokenizer.out()));
  int32_t n = 0;
  CHECK_ERROR(flexq_tokenizer_encode(tokenizer, text, kTooLong, 0, nullptr, 0, &n),
              "LIMIT_EXCEEDED", "268435456");
  const Context context = make_context(model);
  const Generator generator = make_generator(context);
  CHECK_ERROR(flexq_generator_start(generator, text, kTooLong, 0), "LIMIT_EXCEEDED", "268435456");
  munmap(room, kTooLong);
}
