#include "serve/json_fields.h"

#include <utility>

#include "serve/api_error.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr size_t kMaxShownBytes = 60;

std::string shown(const json& value) {
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > kMaxShownBytes) text = text.substr(0, kMaxShownBytes) + "...";
  return text;
}

}  // namespace

json parse_request_object(std::string_view text) {
  const auto check_depth = [](int depth, json::parse_event_t, json&) {
    if (depth > kMaxDepth) {
      throw ApiError(400, "the request's body: expected JSON nested at most " +
                              std::to_string(kMaxDepth) + " deep");
    }
    return true;
  };
  try {
    json object = json::parse(text, check_depth);
    if (object.is_object()) return object;
    fail_field("the request's body", "a JSON object", object);
  } catch (const json::exception& error) {
    throw ApiError(400, std::string("the request's body is not valid JSON: ") + error.what());
  }
}

std::string json_text(const nlohmann::ordered_json& object) {
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void fail_field(const std::string& name, const std::string& expected, const json& found) {
  throw ApiError(400, name + ": expected " + expected + ", found " + shown(found), name);
}

JsonFields::JsonFields(const json& object, std::string where)
    : object_(object), where_(std::move(where)) {}

const json* JsonFields::find(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> JsonFields::integer(const char* name, int64_t min, int64_t max) const {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  // Numbers beyond int64_t are unsigned or floating-point ones.
  const bool fits =
      value->is_number_integer() &&
      (!value->is_number_unsigned() || value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (fits && value->get<int64_t>() >= min && value->get<int64_t>() <= max) {
    return value->get<int64_t>();
  }
  fail_field(full_name(name),
             "an integer from " + std::to_string(min) + " to " + std::to_string(max), *value);
}

std::optional<double> JsonFields::number(const char* name, double min, double max) const {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number() && value->get<double>() >= min && value->get<double>() <= max) {
    return value->get<double>();
  }
  fail_field(full_name(name), "a number from " + short_number(min) + " to " + short_number(max),
             *value);
}

std::optional<bool> JsonFields::boolean(const char* name) const {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  fail_field(full_name(name), "true or false", *value);
}

std::optional<std::string> JsonFields::text(const char* name) const {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  fail_field(full_name(name), "a string", *value);
}

}  // namespace flexq_tool
