// Answers of AnswerFormat::kJson: whatever the model, the sampling and the room, the streamed text
// is one JSON object.
#include <doctest/doctest.h>

#include <numeric>

#include "base/json.h"
#include "runtime/generator.h"
#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr char kPrompt[] = "The city in JSON:";

const std::shared_ptr<const LoadedModel>& tiny_model() {
  static const auto model = open_test_model(source_path("tests/data/wiki-tiny-1m"), "auto", 2);
  return model;
}

std::shared_ptr<Context> context_on(const std::shared_ptr<const LoadedModel>& model,
                                    int32_t context_tokens = 128) {
  ContextOptions options;
  options.context_tokens = context_tokens;
  return value_of(Context::create(model, options));
}

GeneratorOptions json_options(int32_t max_tokens) {
  GeneratorOptions options;
  options.max_tokens = max_tokens;
  options.format = AnswerFormat::kJson;
  return options;
}

// Runs an answer to its end and returns its text: the events', put together, an object and nothing
// else, in no more than `room` tokens.
std::string run(Generator& generator, size_t room) {
  std::string streamed;
  TokenEvent event;
  while (event.finish_reason == FinishReason::kNone) {
    event = value_of(generator.next());
    streamed += event.text;
  }
  CAPTURE(streamed);
  REQUIRE(event.finish_reason == FinishReason::kStop);
  REQUIRE(generator.text() == streamed);
  REQUIRE(generator.tokens().size() <= room);
  REQUIRE(Json::parse(streamed, nullptr, false).is_object());
  REQUIRE(streamed.ends_with('}'));
  return streamed;
}

// An answer in an empty sequence.
std::string answer(const std::shared_ptr<Context>& context, const GeneratorOptions& options,
                   std::span<const int32_t> prompt) {
  require_ok(context->rewind(0, 0));
  const auto generator = value_of(Generator::create(context, options));
  require_ok(generator->start_tokens(prompt));
  const int32_t left = context->plan().shape.context_tokens - static_cast<int32_t>(prompt.size());
  return run(*generator, static_cast<size_t>(
                             options.max_tokens > 0 ? std::min(options.max_tokens, left) : left));
}

Status start_status(const std::shared_ptr<Context>& context, const GeneratorOptions& options,
                    std::span<const int32_t> prompt) {
  require_ok(context->rewind(0, 0));
  const auto generator = value_of(Generator::create(context, options));
  return generator->start_tokens(prompt);
}

}  // namespace

TEST_CASE("JSON answers are whole objects at every length, temperature and seed") {
  const auto context = context_on(tiny_model());
  const auto prompt = value_of(tiny_model()->tokenizer->encode(kPrompt));
  size_t n_empty = 0, n_answers = 0;
  for (int32_t max_tokens = 2; max_tokens < 34; ++max_tokens) {
    for (const float temperature : {0.0f, 0.7f, 1.5f, 100.0f}) {
      for (uint64_t seed = 1; seed <= (temperature == 0 ? 1 : 3); ++seed) {
        GeneratorOptions options = json_options(max_tokens);
        options.sampling.temperature = temperature;
        options.sampling.seed = seed;
        if (seed == 2) options.sampling.top_p = 0.8f;
        if (seed == 3) options.sampling.repetition_penalty = 1.3f;
        const std::string text = answer(context, options, prompt);
        n_empty += text == "{}" ? 1 : 0;
        ++n_answers;
      }
    }
  }
  CHECK(n_empty < n_answers / 2);
}

TEST_CASE("JSON answers of a model of random weights with byte-level tokens") {
  const TemporaryDirectory directory;
  SyntheticOptions synthetic;
  synthetic.byte_level_tokenizer = true;
  synthetic.config.n_vocab = 900;
  write_synthetic_checkpoint(directory.path(), synthetic);
  const auto model = open_test_model(directory.path());
  const auto context = context_on(model, 64);
  const auto prompt = value_of(model->tokenizer->encode("JSON"));
  for (int32_t max_tokens = 2; max_tokens < 22; ++max_tokens) {
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      GeneratorOptions options = json_options(max_tokens);
      options.sampling.temperature = static_cast<float>(seed) - 1;
      options.sampling.seed = seed;
      answer(context, options, prompt);
    }
  }
}

TEST_CASE("JSON answers are closed where the context ends") {
  const auto context = context_on(tiny_model(), 32);
  GeneratorOptions options = json_options(0);
  options.sampling.temperature = 2;
  for (size_t n_prompt = 1; n_prompt <= 30; ++n_prompt) {
    options.sampling.seed = n_prompt;
    answer(context, options, random_tokens(static_cast<int64_t>(n_prompt), 2048, n_prompt));
  }
  for (const int64_t n_prompt : {31, 32}) {
    const Status status = start_status(context, options, random_tokens(n_prompt, 2048, 1));
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message() == "format json: expected room for at least 2 tokens, found 1");
  }
  CHECK(start_status(context, json_options(1), random_tokens(4, 2048, 1)).code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("JSON answers at the beginning of a text and behind half a character") {
  const Tokenizer& tokenizer = *tiny_model()->tokenizer;
  const auto context = context_on(tiny_model());
  // No text before the answer: the detokenizer drops a space there.
  const int32_t only_bos[] = {tokenizer.bos_id()};
  // A character that the prompt does not finish is not the answer's.
  std::vector<int32_t> half = value_of(tokenizer.encode(kPrompt));
  half.push_back(tokenizer.id_of("<0xF0>"));
  half.push_back(tokenizer.id_of("<0x9F>"));
  REQUIRE(half.back() >= 0);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    GeneratorOptions options = json_options(20);
    options.sampling.temperature = 1.5f;
    options.sampling.seed = seed;
    // Space before the brace, as long as there is room for it.
    if (seed % 2 == 0) options.sampling.set_logit_bias(tokenizer.id_of("<0x7B>"), -1000);
    answer(context, options, only_bos);
    answer(context, options, half);
  }
}

TEST_CASE("JSON answers do not end with an end token, nor with a brace inside") {
  const auto context = context_on(tiny_model());
  const auto prompt = value_of(tiny_model()->tokenizer->encode(kPrompt));
  GeneratorOptions options = json_options(40);
  options.sampling.temperature = 1.0f;
  const std::string expected = answer(context, options, prompt);
  // Every token ends the answer, but for the format.
  options.stop_tokens.resize(2048);
  std::iota(options.stop_tokens.begin(), options.stop_tokens.end(), 0);
  CHECK(answer(context, options, prompt) == expected);
  options.ignore_end = true;
  CHECK(answer(context, options, prompt) == expected);
}

TEST_CASE("JSON answers report the model's own probabilities") {
  const auto context = context_on(tiny_model());
  const auto prompt = value_of(tiny_model()->tokenizer->encode(kPrompt));
  GeneratorOptions options = json_options(20);
  options.n_alternatives = 5;
  const auto generator = value_of(Generator::create(context, options));
  require_ok(generator->start_tokens(prompt));
  const TokenEvent event = value_of(generator->next());
  const float* row = value_of(context->logits_row(0));
  Sampler sampler;
  std::vector<TokenLogProb> all;
  sampler.most_probable({row, 2048}, 2048, all);
  REQUIRE(event.alternatives.size() == 5);
  for (size_t i = 0; i < 5; ++i) {
    CHECK(event.alternatives[i].token == all[i].token);
    CHECK(event.alternatives[i].log_prob == all[i].log_prob);
  }
  for (const TokenLogProb& entry : all) {
    if (entry.token == event.token) CHECK(event.log_prob == entry.log_prob);
  }
}

TEST_CASE("a stop string cuts a JSON answer off, and only that") {
  const auto context = context_on(tiny_model());
  const auto prompt = value_of(tiny_model()->tokenizer->encode(kPrompt));
  GeneratorOptions options = json_options(40);
  options.stop_strings = {"\""};
  const auto generator = value_of(Generator::create(context, options));
  require_ok(generator->start_tokens(prompt));
  FinishReason reason = FinishReason::kNone;
  while (reason == FinishReason::kNone)
    reason = value_of(generator->next()).finish_reason;
  CHECK(reason == FinishReason::kStop);
  CHECK(generator->text().find('"') == std::string::npos);
}

TEST_CASE("JSON answers need a tokenizer") {
  const TemporaryDirectory directory;
  SyntheticOptions synthetic;
  synthetic.with_tokenizer = false;
  write_synthetic_checkpoint(directory.path(), synthetic);
  const auto context = context_on(open_test_model(directory.path()));
  const Status status = start_status(context, json_options(20), random_tokens(4, 320, 1));
  CHECK(status.code() == StatusCode::kNotFound);
  // A start that failed is none.
  const auto generator = value_of(Generator::create(context, {}));
  require_ok(generator->start_tokens(random_tokens(4, 320, 1)));
  require_ok(generator->next().status());
}

}  // namespace flexq::test
