// An answer from its start to its last event: text, log-probabilities, continuation, states.
#include "runtime/generator.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "runtime/runtime_fixtures.h"
#include "support/safetensors_file.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

const std::shared_ptr<const LoadedModel>& tiny_model() {
  static const auto model = open_test_model(source_path("tests/data/wiki-tiny-1m"), "auto", 2);
  return model;
}

std::shared_ptr<Context> tiny_context(int32_t context_tokens = 128) {
  ContextOptions options;
  options.context_tokens = context_tokens;
  return value_of(Context::create(tiny_model(), options));
}

GeneratorOptions with_max_tokens(int32_t max_tokens) {
  GeneratorOptions options;
  options.max_tokens = max_tokens;
  return options;
}

// Everything that a caller sees of an answer that ended by itself.
struct Answer {
  std::vector<int32_t> tokens;
  std::string text;  // of all events
  FinishReason finish_reason = FinishReason::kNone;
};
Answer run(Generator& generator) {
  Answer answer;
  while (answer.finish_reason == FinishReason::kNone) {
    const TokenEvent event = value_of(generator.next());
    if (event.token >= 0) answer.tokens.push_back(event.token);
    answer.text += event.text;
    answer.finish_reason = event.finish_reason;
    REQUIRE((event.token >= 0) == (event.finish_reason == FinishReason::kNone));
  }
  CHECK(generator.text() == answer.text);
  CHECK(std::vector<int32_t>(generator.tokens().begin(), generator.tokens().end()) ==
        answer.tokens);
  CHECK(generator.stats().finish_reason == answer.finish_reason);
  return answer;
}

std::vector<int32_t> joined(std::span<const int32_t> a, std::span<const int32_t> b) {
  std::vector<int32_t> all(a.begin(), a.end());
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

// decode(prompt + generated) minus decode(prompt)
std::string text_after(std::span<const int32_t> prompt, std::span<const int32_t> generated) {
  const std::string whole = value_of(tiny_model()->tokenizer->decode(joined(prompt, generated)));
  return whole.substr(value_of(tiny_model()->tokenizer->decode(prompt)).size());
}

constexpr char kPrompt[] = "The history of the city";

}  // namespace

TEST_CASE("T27_golden_text: greedy answers are the recorded ones") {
  const auto golden =
      read_reference_tensors(source_path("tests/data/wiki-tiny-1m-golden/logits.safetensors"));
  for (int i = 0; i < 3; ++i) {
    CAPTURE(i);
    const std::string name = "prompt" + std::to_string(i);
    const std::vector<int32_t>& prompt = golden.at(name + ".ids").i32;
    const std::vector<int32_t>& greedy = golden.at("fp32." + name + ".greedy").i32;
    GeneratorOptions options = with_max_tokens(48);
    options.ignore_end = true;
    const auto generator = value_of(Generator::create(tiny_context(), options));
    require_ok(generator->start_tokens(prompt));
    const Answer answer = run(*generator);
    CHECK(answer.finish_reason == FinishReason::kLength);
    CHECK(joined(prompt, answer.tokens) == greedy);
    CHECK(answer.text == text_after(prompt, answer.tokens));
    CHECK(generator->stats().prefill_ns > 0);
    CHECK(generator->stats().decode_ns > 0);
    CHECK(generator->stats().time_to_first_token_ns >= generator->stats().prefill_ns);
  }
}

TEST_CASE("a prompt of text is encoded with BOS, its answer is text behind it") {
  const auto context = tiny_context();
  const auto generator = value_of(Generator::create(context, with_max_tokens(30)));
  require_ok(generator->start_text(kPrompt, {}));
  CHECK(context->cache().length(0) == 0);  // nothing is computed yet
  const std::vector<int32_t> prompt = value_of(tiny_model()->tokenizer->encode(kPrompt));
  const auto started = generator->prompt_tokens();
  CHECK(std::vector<int32_t>(started.begin(), started.end()) == prompt);
  CHECK(prompt[0] == 1);
  const Answer answer = run(*generator);
  CHECK(answer.text == text_after(prompt, answer.tokens));
  // The last token's keys and values were needed by nobody.
  const auto held = context->cache().tokens(0);
  CHECK(std::vector<int32_t>(held.begin(), held.end()) ==
        joined(prompt, std::span(answer.tokens).first(answer.tokens.size() - 1)));
}

TEST_CASE("an answer in two parts is the answer in one") {
  const auto whole_generator = value_of(Generator::create(tiny_context(), with_max_tokens(40)));
  require_ok(whole_generator->start_text(kPrompt, {}));
  const Answer whole = run(*whole_generator);

  const auto context = tiny_context();
  const auto first = value_of(Generator::create(context, with_max_tokens(15)));
  require_ok(first->start_text(kPrompt, {}));
  const Answer part = run(*first);
  const auto second = value_of(Generator::create(context, with_max_tokens(25)));
  require_ok(second->start_tokens(std::span(part.tokens).last(1)));
  const Answer rest = run(*second);
  CHECK(joined(part.tokens, rest.tokens) == whole.tokens);
  CHECK(part.text + rest.text == whole.text);

  // Text behind a history gets no second BOS.
  const auto third = value_of(Generator::create(context, with_max_tokens(1)));
  require_ok(third->start_text(" and", {}));
  CHECK(third->prompt_tokens()[0] != 1);
}

TEST_CASE("log-probabilities of an answer") {
  GeneratorOptions options = with_max_tokens(12);
  options.n_alternatives = 2048;  // the whole vocabulary, so that they can be summed
  const auto generator = value_of(Generator::create(tiny_context(), options));
  require_ok(generator->start_text(kPrompt, {}));
  std::vector<float> log_probs;
  for (TokenEvent event = value_of(generator->next()); event.token >= 0;
       event = value_of(generator->next())) {
    REQUIRE(event.alternatives.size() == 2048);
    CHECK(event.alternatives[0].token == event.token);
    CHECK(event.alternatives[0].log_prob == event.log_prob);
    CHECK(std::is_sorted(event.alternatives.begin(), event.alternatives.end(),
                         [](const auto& a, const auto& b) { return a.log_prob > b.log_prob; }));
    double sum = 0;
    for (const TokenLogProb& alternative : event.alternatives)
      sum += std::exp(static_cast<double>(alternative.log_prob));
    CHECK(sum == doctest::Approx(1.0).epsilon(1e-5));
    log_probs.push_back(event.log_prob);
  }
  REQUIRE(log_probs.size() == 12);

  // The same text scored at once.
  const std::vector<int32_t> all = joined(generator->prompt_tokens(), generator->tokens());
  std::vector<float> scores(all.size() - 1);
  require_ok(tiny_context()->score(all, scores.data(), [](int64_t, int64_t) { return false; }));
  for (size_t i = 0; i < log_probs.size(); ++i)
    CHECK(std::fabs(log_probs[i] - scores[scores.size() - log_probs.size() + i]) < 1e-5f);
}

TEST_CASE("a seed gives the same answer alone, again and behind other draws") {
  GeneratorOptions options = with_max_tokens(25);
  options.sampling.temperature = 1.0f;
  options.sampling.seed = 42;
  options.ignore_end = true;
  const auto draw = [&](const std::shared_ptr<Context>& context) {
    const auto generator = value_of(Generator::create(context, options));
    require_ok(generator->start_text(kPrompt, {}));
    return run(*generator).tokens;
  };
  const auto context = tiny_context();
  const std::vector<int32_t> first = draw(context);
  require_ok(context->rewind(0, 0));
  CHECK(draw(context) == first);
  options.sampling.seed = 43;
  CHECK(draw(tiny_context()) != first);
}

TEST_CASE("states of a generator") {
  const auto context = tiny_context();
  const std::vector<int32_t> prompt = {1, 500, 600};
  const auto generator = value_of(Generator::create(context, with_max_tokens(2)));
  CHECK(generator->next().status().code() == StatusCode::kInvalidState);
  CHECK(generator->start_tokens({}).code() == StatusCode::kInvalidArgument);
  const std::vector<int32_t> beyond = {1, 2048};
  CHECK(generator->start_tokens(beyond).code() == StatusCode::kInvalidArgument);
  const std::vector<int32_t> too_long(129, 5);
  CHECK(generator->start_tokens(too_long).code() == StatusCode::kContextFull);
  require_ok(generator->start_tokens(prompt));
  CHECK(generator->start_tokens(prompt).code() == StatusCode::kInvalidState);
  CHECK(run(*generator).finish_reason == FinishReason::kLength);
  CHECK(generator->next().status().code() == StatusCode::kInvalidState);
  CHECK(generator->start_tokens(prompt).code() == StatusCode::kInvalidState);

  GeneratorOptions options;
  options.sequence = 1;
  CHECK(Generator::create(context, options).status().code() == StatusCode::kInvalidArgument);
  options.sequence = 0;
  options.stop_strings = {""};
  CHECK(Generator::create(context, options).status().code() == StatusCode::kInvalidArgument);
}

}  // namespace flexq::test
