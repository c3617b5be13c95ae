// A request's JSON: parsed within limits, its fields read by type. Everything that is not as
// expected is an ApiError of status 400 that names the field.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace flexq_tool {

// One JSON object, in UTF-8, not deeper than 64.
nlohmann::json parse_request_object(std::string_view text);

// JSON as text; bytes that are not UTF-8 become U+FFFD.
std::string json_text(const nlohmann::ordered_json& json);

// "expected <what>, found <value>", the value cut where it is long.
[[noreturn]] void fail_field(const std::string& name, const std::string& expected,
                             const nlohmann::json& found);

// null counts as absent, everywhere.
class JsonFields {
 public:
  // `where` goes before names in messages: "messages[2]."
  explicit JsonFields(const nlohmann::json& object, std::string where = "");

  // nullptr: absent.
  const nlohmann::json* find(const char* name) const;
  std::optional<int64_t> integer(const char* name, int64_t min, int64_t max) const;
  std::optional<double> number(const char* name, double min, double max) const;
  std::optional<bool> boolean(const char* name) const;
  std::optional<std::string> text(const char* name) const;
  std::string full_name(const char* name) const { return where_ + name; }

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace flexq_tool
