// Requests, what they give alone, and what a scheduler or an engine gives them.
#pragma once

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "runtime/context.h"
#include "runtime/generator.h"
#include "serving/request.h"
#include "serving/scheduler.h"

namespace flexq::test {

struct Prompt {
  std::vector<int32_t> tokens;
  GeneratorOptions options;
};

// All that a caller sees of an answer.
struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<float> log_probs;
  std::vector<int32_t> alternatives;
  std::string text;
  FinishReason finish_reason = FinishReason::kNone;
  StatusCode error = StatusCode::kOk;
  bool operator==(const Outcome&) const = default;
};

// A generator's, on an empty sequence of a context of its own.
Outcome answer_alone(const std::shared_ptr<const LoadedModel>& model, int32_t context_tokens,
                     const Prompt& prompt);

// What a request has got so far, without waiting for more.
void read_events(Request& request, Outcome& outcome);

// Waits for the end.
Outcome read_answer(Request& request);

// Prompts of 1 to most_tokens tokens with all kinds of options: greedy and sampled, penalties,
// biases, stop strings, alternatives, priorities.
std::vector<Prompt> random_prompts(std::mt19937& random, size_t n, int32_t n_vocab,
                                   int32_t most_tokens, int32_t most_generated);

// A request as an engine would hand it to its scheduler.
Scheduler::Submission make_submission(const Context& context, const Prompt& prompt);

}  // namespace flexq::test
