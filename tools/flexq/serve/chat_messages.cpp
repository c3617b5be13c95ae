#include "serve/chat_messages.h"

#include <string>

#include "serve/api_error.h"
#include "serve/json_fields.h"
#include "serve/unsupported_fields.h"

namespace flexq_tool {
namespace {

using nlohmann::json;

std::string read_content(const json& message, const std::string& where) {
  const std::string name = where + "content";
  const json* content = JsonFields(message).find("content");
  if (content == nullptr) fail_field(name, "a string or an array of text parts", nullptr);
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) fail_field(name, "a string or an array of text parts", *content);
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    const json& part = (*content)[i];
    const std::string part_name = name + "[" + std::to_string(i) + "]";
    if (!part.is_object()) fail_field(part_name, "an object", part);
    const JsonFields fields(part, part_name + ".");
    const std::optional<std::string> type = fields.text("type");
    if (type != "text") {
      fail_field(part_name + ".type", "\"text\"", type ? json(*type) : json());
    }
    const std::optional<std::string> part_text = fields.text("text");
    if (!part_text) fail_field(part_name + ".text", "a string", nullptr);
    text += *part_text;
  }
  return text;
}

}  // namespace

Chat read_messages(const json& request) {
  const json* messages = JsonFields(request).find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    fail_field("messages", "an array of messages", messages == nullptr ? json() : *messages);
  }
  Chat chat;
  if (const flexq_status status = flexq_chat_create(Out(chat)); status != FLEXQ_OK) {
    throw library_error(status);
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    const json& message = (*messages)[i];
    const std::string name = "messages[" + std::to_string(i) + "]";
    if (!message.is_object()) fail_field(name, "an object", message);
    const std::string where = name + ".";
    refuse_unsupported_message_fields(message, where);
    const std::optional<std::string> role = JsonFields(message, where).text("role");
    if (role != "system" && role != "developer" && role != "user" && role != "assistant") {
      fail_field(where + "role", "\"system\", \"developer\", \"user\" or \"assistant\"",
                 role ? json(*role) : json());
    }
    const std::string content = read_content(message, where);
    const flexq_status status =
        flexq_chat_add(chat.get(), role == "developer" ? "system" : role->c_str(), content.data(),
                       static_cast<int64_t>(content.size()));
    if (status != FLEXQ_OK) throw library_error(status, where + "content");
  }
  return chat;
}

}  // namespace flexq_tool
