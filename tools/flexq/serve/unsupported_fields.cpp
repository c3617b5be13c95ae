#include "serve/unsupported_fields.h"

#include <string>

#include "serve/api_error.h"

namespace flexq_tool {
namespace {

using nlohmann::json;

struct Unsupported {
  const char* name;
  json neutral = nullptr;  // the value that asks for nothing
};

// OpenAI's, and what other servers understand beyond them.
const std::vector<Unsupported>& request_fields() {
  static const std::vector<Unsupported> fields = {
      {"add_generation_prompt", true},
      {"audio"},
      {"best_of", 1},
      {"chat_template"},
      {"chat_template_kwargs"},
      {"continue_final_message"},
      {"documents"},
      {"echo"},
      {"function_call", "none"},
      {"functions"},
      {"grammar"},
      {"guided_choice"},
      {"guided_grammar"},
      {"guided_json"},
      {"guided_regex"},
      {"json_schema"},
      {"length_penalty", 1},
      {"lora"},
      {"min_tokens", 0},
      {"mirostat", 0},
      {"modalities", {"text"}},
      {"moderation"},
      {"prompt_logprobs"},
      {"reasoning_effort", "none"},
      {"stop_token_ids"},
      {"store"},
      {"structured_outputs"},
      {"suffix", ""},
      {"tool_choice", "none"},
      {"tools"},
      {"truncate_prompt_tokens"},
      {"typical_p", 1},
      {"use_beam_search"},
      {"verbosity", "medium"},
      {"web_search_options"},
  };
  return fields;
}

const std::vector<Unsupported>& message_fields() {
  static const std::vector<Unsupported> fields = {{"audio"},        {"function_call"}, {"name"},
                                                  {"tool_call_id"}, {"tool_calls"},    {"refusal"}};
  return fields;
}

void refuse(const json& object, const std::vector<Unsupported>& fields, const std::string& where) {
  for (const Unsupported& field : fields) {
    const auto value = object.find(field.name);
    if (value == object.end() || value->is_null() || *value == field.neutral) continue;
    if ((value->is_boolean() && !value->get<bool>()) ||
        (value->is_structured() && value->empty())) {
      continue;
    }
    const std::string name = where + field.name;
    throw ApiError(400, name + " is not supported", name, "unsupported_parameter");
  }
}

}  // namespace

void refuse_unsupported_fields(const json& request) {
  refuse(request, request_fields(), "");
}

void refuse_unsupported_message_fields(const json& message, const std::string& where) {
  refuse(message, message_fields(), where);
}

}  // namespace flexq_tool
