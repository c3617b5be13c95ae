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
#include <utility>

#include "base/status.h"

namespace flexq {

using Json = nlohmann::json;

inline constexpr int kMaxJsonDepth = 64;  // nested arrays and objects

// Owns a document. The destructor of nlohmann::json allocates where a container has members, and
// ends the process when that fails; this one takes the document apart first, without allocating.
// So a container with members must live in a JsonDocument, be it for the time of building it:
// elsewhere only scalars, empty containers and references into documents. And a value becomes a
// container by assignment (value = Json::object()), not by [] or push_back on null, which fail
// half-way.
class JsonDocument {
 public:
  JsonDocument() = default;
  explicit JsonDocument(Json root) noexcept : root_(std::move(root)) {}
  JsonDocument(JsonDocument&& other) noexcept : root_(std::move(other.root_)) {}
  JsonDocument& operator=(JsonDocument&& other) noexcept;
  ~JsonDocument();

  Json& root() & { return root_; }
  const Json& root() const& { return root_; }

 private:
  Json root_;
};

// Parses `text` (UTF-8). Malformed text, nesting deeper than kMaxJsonDepth and duplicate keys in
// one object are kCorrupt, with `name` (a file name) and the byte position in the message. Never
// throws anything but std::bad_alloc. Access the result by find(), is_string() and the like:
// at() and get<T>() throw on a wrong type.
Result<JsonDocument> parse_json(std::string_view text, const std::string& name);

}  // namespace flexq
