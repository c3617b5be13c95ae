#include "serve/completion_request.h"

#include <charconv>

#include "serve/api_error.h"
#include "serve/chat_messages.h"
#include "serve/json_fields.h"
#include "serve/unsupported_fields.h"

namespace flexq_tool {
namespace {

using nlohmann::json;

constexpr int32_t kMaxAlternatives = 20;
constexpr int32_t kMaxAnswers = 128;
// Answers to one request, over all its prompts: as many as may be computed for one caller at once.
constexpr size_t kMaxChoices = 1024;
constexpr int32_t kDefaultCompletionTokens = 16;

template <typename To, typename From>
void take(To& to, const std::optional<From>& from) {
  if (from) to = static_cast<To>(*from);
}

std::vector<std::string> read_stop(const JsonFields& fields) {
  const json* value = fields.find("stop");
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  std::vector<std::string> texts;
  for (const json& entry : *value) {
    if (!value->is_array() || !entry.is_string()) break;
    texts.push_back(entry.get<std::string>());
  }
  if (value->is_array() && texts.size() == value->size()) return texts;
  fail_field("stop", "a string or an array of strings", *value);
}

std::vector<std::pair<int32_t, double>> read_logit_bias(const JsonFields& fields) {
  const json* value = fields.find("logit_bias");
  if (value == nullptr) return {};
  if (!value->is_object()) fail_field("logit_bias", "an object of token ids and numbers", *value);
  std::vector<std::pair<int32_t, double>> biases;
  for (const auto& [key, bias] : value->items()) {
    int32_t token = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || token < 0) {
      fail_field("logit_bias", "token ids as keys", key);
    }
    if (!bias.is_number() || bias.get<double>() < -100 || bias.get<double>() > 100) {
      fail_field("logit_bias." + key, "a number from -100 to 100", bias);
    }
    biases.emplace_back(token, bias.get<double>());
  }
  return biases;
}

bool wants_json(const JsonFields& fields) {
  const json* value = fields.find("response_format");
  if (value == nullptr) return false;
  if (!value->is_object()) fail_field("response_format", "an object", *value);
  const std::optional<std::string> type = JsonFields(*value, "response_format.").text("type");
  if (type == "json_object") return true;
  if (type == "text") return false;
  fail_field("response_format.type", "\"text\" or \"json_object\"", type ? json(*type) : json());
}

bool wants_usage(const JsonFields& fields, bool streams) {
  const json* value = fields.find("stream_options");
  if (value == nullptr) return false;
  if (!streams || !value->is_object()) {
    fail_field("stream_options", streams ? "an object" : "none without \"stream\": true", *value);
  }
  return JsonFields(*value, "stream_options.").boolean("include_usage").value_or(false);
}

void read_common_fields(const json& object, CompletionRequest& request) {
  refuse_unsupported_fields(object);
  const JsonFields fields(object);
  take(request.model, fields.text("model"));
  take(request.n, fields.integer("n", 1, kMaxAnswers));
  take(request.streams, fields.boolean("stream"));
  request.includes_usage = wants_usage(fields, request.streams);
  take(request.max_tokens, fields.integer("max_tokens", 1, INT32_MAX));
  take(request.temperature, fields.number("temperature", 0, 2));
  take(request.top_p, fields.number("top_p", 0, 1));
  take(request.min_p, fields.number("min_p", 0, 1));
  // -1 is what some clients send for "off".
  take(request.top_k, fields.integer("top_k", -1, 1 << 20));
  if (request.top_k < 0) request.top_k = 0;
  take(request.repetition_penalty, fields.number("repetition_penalty", 0.01, 100));
  take(request.presence_penalty, fields.number("presence_penalty", -2, 2));
  take(request.frequency_penalty, fields.number("frequency_penalty", -2, 2));
  request.seed = fields.integer("seed", INT64_MIN, INT64_MAX);
  request.logit_bias = read_logit_bias(fields);
  request.stop = read_stop(fields);
  take(request.ignores_end, fields.boolean("ignore_eos"));
  request.is_json = wants_json(fields);
  take(request.priority, fields.integer("priority", -100, 100));
  (void)fields.text("user");
}

PromptTokens read_tokens(const json& array, const std::string& name) {
  PromptTokens tokens;
  for (const json& entry : array) {
    const bool is_token = entry.is_number_unsigned() && entry.get<uint64_t>() <= INT32_MAX;
    if (!is_token) fail_field(name, "token ids", entry);
    tokens.push_back(entry.get<int32_t>());
  }
  return tokens;
}

void read_prompts(const json& object, CompletionRequest& request) {
  const char* const expected =
      "a string, an array of token ids, or an array of several strings or arrays";
  const json* prompt = JsonFields(object).find("prompt");
  if (prompt == nullptr) fail_field("prompt", expected, nullptr);
  if (prompt->is_string()) {
    request.prompts.emplace_back(prompt->get<std::string>());
  } else if (!prompt->is_array() || prompt->empty()) {
    fail_field("prompt", expected, *prompt);
  } else if (prompt->front().is_number()) {
    request.prompts.emplace_back(read_tokens(*prompt, "prompt"));
  } else {
    for (size_t i = 0; i < prompt->size(); ++i) {
      const json& entry = (*prompt)[i];
      const std::string name = "prompt[" + std::to_string(i) + "]";
      if (entry.is_string()) {
        request.prompts.emplace_back(entry.get<std::string>());
      } else if (entry.is_array()) {
        request.prompts.emplace_back(read_tokens(entry, name));
      } else {
        fail_field(name, "a string or an array of token ids", entry);
      }
    }
  }
  if (request.n_choices() > kMaxChoices) {
    throw ApiError(400,
                   "prompt: expected at most " + std::to_string(kMaxChoices) +
                       " answers in one request, found " + std::to_string(request.n_choices()),
                   "prompt");
  }
}

}  // namespace

CompletionRequest read_completion_request(const json& object) {
  CompletionRequest request;
  request.max_tokens = kDefaultCompletionTokens;
  read_common_fields(object, request);
  take(request.n_log_probs, JsonFields(object).integer("logprobs", 0, kMaxAlternatives));
  read_prompts(object, request);
  return request;
}

CompletionRequest read_chat_request(const json& object) {
  CompletionRequest request;
  request.is_chat = true;
  read_common_fields(object, request);
  const JsonFields fields(object);
  take(request.max_tokens, fields.integer("max_completion_tokens", 1, INT32_MAX));
  if (fields.boolean("logprobs").value_or(false)) request.n_log_probs = 0;
  const std::optional<int64_t> n_top = fields.integer("top_logprobs", 0, kMaxAlternatives);
  if (n_top && request.n_log_probs < 0) {
    fail_field("top_logprobs", "none without \"logprobs\": true", *n_top);
  }
  take(request.n_log_probs, n_top);
  request.chat = read_messages(object);
  return request;
}

}  // namespace flexq_tool
