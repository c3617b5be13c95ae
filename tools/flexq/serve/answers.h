// The answers to one request while the engine computes them: one for every prompt and each of its
// n.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "serve/api_error.h"
#include "serve/completion_request.h"
#include "serve/served_model.h"

namespace flexq_tool {

using EngineRequest = std::unique_ptr<flexq_request, Releaser<flexq_request_release>>;

struct TokenChoice {
  int32_t token = 0;
  float log_prob = 0;
};

// What one step added to an answer.
struct AnswerPiece {
  int32_t choice = 0;
  std::string text;
  bool has_token = false;
  TokenChoice token;
  std::vector<TokenChoice> alternatives;
  bool is_last = false;
  const char* finish_reason = nullptr;  // "stop" or "length", in the last
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t completion_tokens = 0;
};

class Answers {
 public:
  using Clock = std::chrono::steady_clock;

  // Queues everything, or nothing and throws ApiError. chat_template: nullptr for the model's own.
  Answers(std::shared_ptr<ServedModel> model, const CompletionRequest& request,
          const char* chat_template, int64_t timeout_ms);

  // Hands out pieces as they come until all answers are whole, or a piece is refused (false). Asks
  // is_over every kPollInterval: true cancels everything and ends too. Returns whether all answers
  // are whole; throws ApiError when one of them fails.
  bool run(const std::function<bool(const AnswerPiece&)>& on_piece,
           const std::function<bool()>& is_over);

  // Of what was computed so far.
  Usage usage() const;
  const ServedModel& model() const { return *model_; }

  // Measured from the construction; 0: not yet. One entry for each answer.
  std::vector<double> seconds_to_first_token() const;
  std::vector<double> seconds_per_output_token() const;

 private:
  static constexpr auto kPollInterval = std::chrono::milliseconds(20);

  struct Answer {
    EngineRequest request;
    bool is_open = true;
    int64_t n_tokens = 0;
    Clock::time_point first_token = {};
    Clock::time_point last_token = {};
  };

  EngineRequest submit(const CompletionRequest& request, size_t prompt, int32_t choice,
                       const char* chat_template, int64_t timeout_ms) const;
  // Waits at most timeout_ms; false: no event.
  bool next(size_t choice, int64_t timeout_ms, AnswerPiece& piece);

  size_t n_per_prompt_;
  std::shared_ptr<ServedModel> model_;  // outlives the requests to its engine
  uint64_t random_seed_;
  Clock::time_point begin_;
  std::vector<Answer> answers_;
};

}  // namespace flexq_tool
