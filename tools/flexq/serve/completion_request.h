// What a request to /v1/completions or /v1/chat/completions asks for.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tool_handles.h"

namespace flexq_tool {

using PromptText = std::string;
using PromptTokens = std::vector<int32_t>;

struct CompletionRequest {
  bool is_chat = false;
  std::string model;  // empty: any
  std::vector<std::variant<PromptText, PromptTokens>> prompts;
  Chat chat;
  int32_t n = 1;  // answers to each prompt
  bool streams = false;
  bool includes_usage = false;  // in a stream
  int32_t n_log_probs = -1;     // alternatives; -1: no log probabilities

  int32_t max_tokens = 0;  // 0: until the context is full
  double temperature = 1;
  double top_p = 1;
  double min_p = 0;
  int32_t top_k = 0;
  double repetition_penalty = 1;
  double presence_penalty = 0;
  double frequency_penalty = 0;
  std::optional<int64_t> seed;
  std::vector<std::pair<int32_t, double>> logit_bias;
  std::vector<std::string> stop;
  bool ignores_end = false;
  bool is_json = false;
  int32_t priority = 0;

  size_t n_prompts() const { return is_chat ? 1 : prompts.size(); }
  size_t n_choices() const { return n_prompts() * static_cast<size_t>(n); }
};

// Both throw ApiError where a field is not as expected, or not supported.
CompletionRequest read_completion_request(const nlohmann::json& object);
CompletionRequest read_chat_request(const nlohmann::json& object);

}  // namespace flexq_tool
