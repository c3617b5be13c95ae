// nlohmann::json with limits: the only way library code parses JSON, and the only file that
// includes the library, because its checks are redefined here for every user alike.
#pragma once

namespace flexq {

// A broken precondition of nlohmann::json (operator[] of a constant object without that key) is a
// bug in FlexQ: it throws std::logic_error, which the exception barrier in src/api turns into
// kInternal, where the library's default would abort the host.
[[noreturn]] void json_misuse(const char* condition);

}  // namespace flexq

#ifdef INCLUDE_NLOHMANN_JSON_HPP_
#error "include base/json.h instead of nlohmann/json.hpp"
#endif
#define JSON_ASSERT(condition) \
  (static_cast<bool>(condition) ? static_cast<void>(0) : ::flexq::json_misuse(#condition))

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace flexq {

using Json = nlohmann::json;

inline constexpr int kMaxJsonDepth = 64;  // nested arrays and objects

// Parses `text` (UTF-8). Malformed text, nesting deeper than kMaxJsonDepth and duplicate keys in
// one object are kCorrupt, with `name` (a file name) and the byte position in the message. Never
// throws anything but std::bad_alloc. Access the result by find(), is_string() and the like:
// at() and get<T>() throw on a wrong type.
Result<Json> parse_json(std::string_view text, const std::string& name);

}  // namespace flexq
