#include "text/tokenizer_config.h"

namespace flexq {
namespace {

// The member `key`; null for an absent one and for one that is null.
const Json* find_member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const std::string* string_member(const Json& object, const char* key) {
  const Json* member = find_member(object, key);
  return member == nullptr ? nullptr : member->get_ptr<const std::string*>();
}

// "<s>", or an object with the token as "content".
Status read_token(const Json& config, const char* key, const std::string& name,
                  std::optional<std::string>& token) {
  const Json* value = find_member(config, key);
  if (value == nullptr) return {};
  const std::string* text =
      value->is_object() ? string_member(*value, "content") : value->get_ptr<const std::string*>();
  if (text == nullptr)
    return Status::error(StatusCode::kCorrupt,
                         "%s: %s: expected a string or an object with content", name.c_str(), key);
  token = *text;
  return {};
}

// A string, or a list of {"name", "template"}.
Status read_chat_template(const Json& config, const std::string& name,
                          std::optional<std::string>& chat_template) {
  const Json* value = find_member(config, "chat_template");
  if (value == nullptr) return {};
  if (value->is_string()) {
    chat_template = *value->get_ptr<const std::string*>();
    return {};
  }
  if (!value->is_array())
    return Status::error(StatusCode::kCorrupt,
                         "%s: chat_template: expected a string or a list of named templates",
                         name.c_str());
  for (const Json& entry : *value) {
    const std::string* entry_name = entry.is_object() ? string_member(entry, "name") : nullptr;
    const std::string* text = entry.is_object() ? string_member(entry, "template") : nullptr;
    if (entry_name == nullptr || text == nullptr)
      return Status::error(StatusCode::kCorrupt,
                           "%s: chat_template: expected objects with name and template",
                           name.c_str());
    if (*entry_name == "default") chat_template = *text;
  }
  return {};
}

}  // namespace

Result<TokenizerConfig> parse_tokenizer_config(std::string_view text, const std::string& name) {
  FLEXQ_ASSIGN_OR_RETURN(const JsonDocument document, parse_json(text, name));
  const Json& json = document.root();
  if (!json.is_object())
    return Status::error(StatusCode::kCorrupt, "%s: expected an object", name.c_str());
  TokenizerConfig config;
  if (const Json* value = find_member(json, "add_bos_token"); value != nullptr) {
    if (!value->is_boolean())
      return Status::error(StatusCode::kCorrupt, "%s: add_bos_token: expected true or false",
                           name.c_str());
    config.add_bos_token = *value->get_ptr<const bool*>();
  }
  FLEXQ_RETURN_IF_ERROR(read_token(json, "bos_token", name, config.bos_token));
  FLEXQ_RETURN_IF_ERROR(read_token(json, "eos_token", name, config.eos_token));
  FLEXQ_RETURN_IF_ERROR(read_token(json, "pad_token", name, config.pad_token));
  if (const Json* list = find_member(json, "added_tokens_decoder"); list != nullptr) {
    FLEXQ_ASSIGN_OR_RETURN(config.added_tokens,
                           parse_added_tokens(*list, name + ": added_tokens_decoder"));
  }
  FLEXQ_RETURN_IF_ERROR(read_chat_template(json, name, config.chat_template));
  return config;
}

}  // namespace flexq
