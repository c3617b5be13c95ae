#include "serve/completion_response.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "serve/json_fields.h"

namespace flexq_tool {
namespace {

using nlohmann::ordered_json;

// JSON has no infinity; OpenAI says -9999 for what cannot happen.
constexpr float kLeastLogProb = -9999;

float finite(float log_prob) {
  return std::max(log_prob, kLeastLogProb);
}

ordered_json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

// Appends the entries of `from` to the lists of `to`: "content", or "tokens" and its companions.
void append_log_probs(ordered_json& to, const ordered_json& from) {
  if (from.is_null()) return;
  if (to.is_null()) {
    to = from;
    return;
  }
  for (const auto& [name, list] : from.items()) {
    for (const ordered_json& entry : list)
      to[name].push_back(entry);
  }
}

}  // namespace

std::string server_sent_event(std::string_view json) {
  return "data: " + std::string(json) + "\n\n";
}

CompletionResponse::CompletionResponse(const CompletionRequest& request, const ServedModel& model,
                                       std::string model_name, std::string id)
    : tokenizer_(model.tokenizer()),
      is_chat_(request.is_chat),
      includes_usage_(request.includes_usage),
      has_log_probs_(request.n_log_probs >= 0),
      model_name_(std::move(model_name)),
      id_(std::move(id)),
      created_(std::time(nullptr)),
      choices_(request.n_choices()) {}

ordered_json CompletionResponse::frame(bool is_chunk) const {
  const char* object = !is_chat_  ? "text_completion"
                       : is_chunk ? "chat.completion.chunk"
                                  : "chat.completion";
  return {{"id", id_},
          {"object", object},
          {"created", created_},
          {"model", model_name_},
          {"system_fingerprint", std::string("flexq-") + flexq_version()},
          {"choices", ordered_json::array()}};
}

ordered_json CompletionResponse::choice_json(int32_t index, ordered_json log_probs,
                                             const char* finish_reason) const {
  ordered_json choice = {
      {"index", index}, {"logprobs", std::move(log_probs)}, {"finish_reason", nullptr}};
  if (finish_reason != nullptr) choice["finish_reason"] = finish_reason;
  return choice;
}

std::string CompletionResponse::token_bytes(int32_t token) const {
  if (tokenizer_ == nullptr) return "";
  char bytes[256];
  int64_t n_bytes = 0;
  if (flexq_tokenizer_token_bytes(tokenizer_, token, bytes, sizeof bytes, &n_bytes) == FLEXQ_OK) {
    return std::string(bytes, static_cast<size_t>(n_bytes));
  }
  std::string text(static_cast<size_t>(n_bytes), '\0');
  const flexq_status status =
      flexq_tokenizer_token_bytes(tokenizer_, token, text.data(), n_bytes, &n_bytes);
  return status == FLEXQ_OK ? text : "";
}

ordered_json CompletionResponse::chat_token(const TokenChoice& token) const {
  const std::string text = token_bytes(token.token);
  ordered_json bytes = ordered_json::array();
  for (const char byte : text)
    bytes.push_back(static_cast<uint8_t>(byte));
  return {{"token", text}, {"logprob", finite(token.log_prob)}, {"bytes", std::move(bytes)}};
}

ordered_json CompletionResponse::log_probs(const AnswerPiece& piece, Choice& choice) const {
  if (!has_log_probs_ || !piece.has_token) return nullptr;
  if (is_chat_) {
    ordered_json entry = chat_token(piece.token);
    entry["top_logprobs"] = ordered_json::array();
    for (const TokenChoice& alternative : piece.alternatives)
      entry["top_logprobs"].push_back(chat_token(alternative));
    return {{"content", ordered_json::array({std::move(entry)})}};
  }
  const std::string text = token_bytes(piece.token.token);
  ordered_json top = ordered_json::object();
  for (const TokenChoice& alternative : piece.alternatives) {
    top[token_bytes(alternative.token)] = finite(alternative.log_prob);
  }
  const int64_t offset = choice.n_characters;
  choice.n_characters += count_characters(text);
  return {{"tokens", ordered_json::array({text})},
          {"token_logprobs", ordered_json::array({finite(piece.token.log_prob)})},
          {"top_logprobs", ordered_json::array({std::move(top)})},
          {"text_offset", ordered_json::array({offset})}};
}

std::string CompletionResponse::first_events() const {
  std::string events;
  for (size_t i = 0; is_chat_ && i < choices_.size(); ++i) {
    ordered_json chunk = frame(true);
    ordered_json choice = choice_json(static_cast<int32_t>(i), nullptr, nullptr);
    choice["delta"] = {{"role", "assistant"}, {"content", ""}};
    chunk["choices"].push_back(std::move(choice));
    if (includes_usage_) chunk["usage"] = nullptr;
    events += server_sent_event(json_text(chunk));
  }
  return events;
}

std::string CompletionResponse::events(const AnswerPiece& piece) {
  Choice& choice = choices_[static_cast<size_t>(piece.choice)];
  // Tokens in the middle of a character have no text: their log probabilities go with the next.
  append_log_probs(choice.log_probs, log_probs(piece, choice));
  if (piece.text.empty() && !piece.is_last) return "";
  ordered_json chunk = frame(true);
  ordered_json json =
      choice_json(piece.choice, std::exchange(choice.log_probs, nullptr), piece.finish_reason);
  if (is_chat_) {
    json["delta"] = ordered_json::object();
    if (!piece.text.empty()) json["delta"]["content"] = piece.text;
  } else {
    json["text"] = piece.text;
  }
  chunk["choices"].push_back(std::move(json));
  if (includes_usage_) chunk["usage"] = nullptr;
  return server_sent_event(json_text(chunk));
}

std::string CompletionResponse::last_events(const Usage& usage) const {
  if (!includes_usage_) return "";
  ordered_json chunk = frame(true);
  chunk["usage"] = usage_json(usage);
  return server_sent_event(json_text(chunk));
}

void CompletionResponse::add(const AnswerPiece& piece) {
  Choice& choice = choices_[static_cast<size_t>(piece.choice)];
  choice.text += piece.text;
  append_log_probs(choice.log_probs, log_probs(piece, choice));
  if (piece.is_last) choice.finish_reason = piece.finish_reason;
}

std::string CompletionResponse::whole(const Usage& usage) const {
  ordered_json response = frame(false);
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    ordered_json json =
        choice_json(static_cast<int32_t>(i), choice.log_probs, choice.finish_reason);
    if (is_chat_) {
      json["message"] = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    } else {
      json["text"] = choice.text;
    }
    response["choices"].push_back(std::move(json));
  }
  response["usage"] = usage_json(usage);
  return json_text(response);
}

}  // namespace flexq_tool
