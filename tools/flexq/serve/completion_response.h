// What goes back for a completion: whole, or as the chunks of a stream.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "serve/answers.h"
#include "serve/completion_request.h"

namespace flexq_tool {

// "data: <json>\n\n"
std::string server_sent_event(std::string_view json);
inline constexpr char kLastServerSentEvent[] = "data: [DONE]\n\n";

class CompletionResponse {
 public:
  // id: "chatcmpl-..." or "cmpl-...".
  CompletionResponse(const CompletionRequest& request, const ServedModel& model,
                     std::string model_name, std::string id);

  // Of a stream: what comes first, a piece, and what comes last but for kLastServerSentEvent.
  std::string first_events() const;
  std::string events(const AnswerPiece& piece);
  std::string last_events(const Usage& usage) const;

  // Of a whole answer.
  void add(const AnswerPiece& piece);
  std::string whole(const Usage& usage) const;

 private:
  struct Choice {
    std::string text;
    nlohmann::ordered_json log_probs;  // null where none are wanted
    const char* finish_reason = nullptr;
    int64_t n_characters = 0;  // of the tokens so far
  };

  nlohmann::ordered_json frame(bool is_chunk) const;
  nlohmann::ordered_json choice_json(int32_t index, nlohmann::ordered_json log_probs,
                                     const char* finish_reason) const;
  nlohmann::ordered_json log_probs(const AnswerPiece& piece, Choice& choice) const;
  nlohmann::ordered_json chat_token(const TokenChoice& token) const;
  std::string token_bytes(int32_t token) const;

  const flexq_tokenizer* tokenizer_;
  const bool is_chat_;
  const bool includes_usage_;
  const bool has_log_probs_;
  const std::string model_name_;
  const std::string id_;
  const int64_t created_;
  std::vector<Choice> choices_;
};

}  // namespace flexq_tool
