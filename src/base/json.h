// nlohmann::json without exceptions and with limits: the only way library code parses JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/status.h"

namespace flexq {

using Json = nlohmann::json;

// Parses `text` (UTF-8). Malformed text, nesting deeper than 64 and duplicate keys in one object
// are kCorrupt, with `name` (a file name) and the byte position in the message.
Result<Json> parse_json(std::string_view text, const std::string& name);

}  // namespace flexq
