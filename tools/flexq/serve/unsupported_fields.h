// Fields of the OpenAI API that would change an answer and that this server does not offer: refused
// by name, never ignored.
#pragma once

#include <nlohmann/json.hpp>

namespace flexq_tool {

// Throws an ApiError of status 400 that names the field. Values that ask for nothing (null, false,
// an empty list, the field's neutral value) pass.
void refuse_unsupported_fields(const nlohmann::json& request);

// The same for one message of a conversation, called `where`: "messages[2].".
void refuse_unsupported_message_fields(const nlohmann::json& message, const std::string& where);

}  // namespace flexq_tool
