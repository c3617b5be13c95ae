// The messages of a request as the library's conversation.
#pragma once

#include <nlohmann/json.hpp>

#include "tool_handles.h"

namespace flexq_tool {

// Reads "messages". Contents are strings or lists of text parts, which are joined; "developer" is
// "system". Throws ApiError.
Chat read_messages(const nlohmann::json& request);

}  // namespace flexq_tool
