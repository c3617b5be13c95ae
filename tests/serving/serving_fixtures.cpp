#include "serving/serving_fixtures.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "base/clock.h"
#include "runtime/runtime_fixtures.h"

namespace flexq::test {
namespace {

// Works for TokenEvent and RequestEvent.
template <typename Event>
void add_event(const Event& event, Outcome& outcome) {
  REQUIRE((event.token >= 0) == (event.finish_reason == FinishReason::kNone));
  if (event.token >= 0) {
    outcome.tokens.push_back(event.token);
    outcome.positions.push_back(event.position);
    outcome.log_probs.push_back(event.log_prob);
    for (const TokenLogProb& alternative : event.alternatives)
      outcome.alternatives.push_back(alternative.token);
  }
  outcome.text += event.text;
  outcome.finish_reason = event.finish_reason;
}

}  // namespace

Outcome answer_alone(const std::shared_ptr<const LoadedModel>& model, int32_t context_tokens,
                     const Prompt& prompt) {
  ContextOptions options;
  options.context_tokens = context_tokens;
  const auto generator =
      value_of(Generator::create(value_of(Context::create(model, options)), prompt.options));
  require_ok(generator->start_tokens(prompt.tokens));
  Outcome outcome;
  while (outcome.finish_reason == FinishReason::kNone) {
    Result<TokenEvent> event = generator->next();
    if (!event.ok()) {
      outcome.error = event.status().code();
      outcome.finish_reason = generator->stats().finish_reason;
      break;
    }
    add_event(*event, outcome);
  }
  return outcome;
}

void read_events(Request& request, Outcome& outcome) {
  while (outcome.finish_reason == FinishReason::kNone) {
    Result<std::optional<RequestEvent>> next = request.next(0);
    if (!next.ok()) {
      outcome.error = next.status().code();
      outcome.finish_reason = request.stats().finish_reason;
      return;
    }
    if (!next->has_value()) return;
    add_event(**next, outcome);
  }
}

Outcome read_answer(Request& request) {
  Outcome outcome;
  while (outcome.finish_reason == FinishReason::kNone) {
    Result<std::optional<RequestEvent>> next = request.next(-1);
    if (!next.ok()) {
      outcome.error = next.status().code();
      outcome.finish_reason = request.stats().finish_reason;
      break;
    }
    REQUIRE(next->has_value());
    add_event(**next, outcome);
  }
  CHECK(request.next(0).status().code() == StatusCode::kInvalidState);
  return outcome;
}

std::vector<Prompt> random_prompts(std::mt19937& random, size_t n, int32_t n_vocab,
                                   int32_t most_tokens, int32_t most_generated) {
  const auto from = [&](int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random() % static_cast<uint32_t>(high - low + 1));
  };
  std::vector<Prompt> prompts(n);
  for (Prompt& prompt : prompts) {
    prompt.tokens = random_tokens(from(1, most_tokens), n_vocab, random());
    GeneratorOptions& options = prompt.options;
    options.max_tokens = from(1, most_generated);
    options.priority = from(-1, 1);
    options.ignore_end = from(0, 1) == 0;
    if (from(0, 3) == 0) options.n_alternatives = 3;
    if (from(0, 3) == 0) options.stop_strings = {"e", "the "};
    SamplingParams& sampling = options.sampling;
    sampling.seed = random();
    if (from(0, 2) > 0) sampling.temperature = 0.3f + 0.1f * static_cast<float>(from(0, 10));
    if (from(0, 2) == 0) sampling.top_k = from(1, 50);
    if (from(0, 2) == 0) sampling.top_p = 0.9f;
    if (from(0, 3) == 0) sampling.repetition_penalty = 1.3f;
    if (from(0, 3) == 0) sampling.set_logit_bias(from(0, n_vocab - 1), 2.5f);
  }
  return prompts;
}

Scheduler::Submission make_submission(const Context& context, const Prompt& prompt) {
  Answer answer =
      value_of(Answer::create(context.shared_model(), context.plan().shape, prompt.options));
  require_ok(answer.start({}, prompt.tokens));
  return {std::make_shared<Request>(prompt.tokens, now_ns()), std::move(answer)};
}

}  // namespace flexq::test
