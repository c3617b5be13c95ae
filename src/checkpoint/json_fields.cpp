#include "checkpoint/json_fields.h"

#include <limits>

namespace flexq {

const Json* JsonFields::find(const char* key) const {
  const auto it = object_.find(key);
  if (it == object_.end() || it->is_null()) return nullptr;
  return &*it;
}

void JsonFields::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void JsonFields::missing(const char* key) {
  fail(Status::error(StatusCode::kCorrupt, "%s: %s is missing", where_.c_str(), key));
}

void JsonFields::wrong_type(const char* key, const char* expected, const Json& found) {
  fail(Status::error(StatusCode::kCorrupt, "%s: %s: expected %s, found %s", where_.c_str(), key,
                     expected, found.type_name()));
}

int32_t JsonFields::as_integer(const char* key, const Json& value) {
  if (!value.is_number_integer()) {
    wrong_type(key, "an integer", value);
    return 0;
  }
  constexpr int64_t kLow = std::numeric_limits<int32_t>::min();
  constexpr int64_t kHigh = std::numeric_limits<int32_t>::max();
  // Compared as unsigned where the parser says so: above 2^63 it would turn negative.
  const bool fits = value.is_number_unsigned()
                        ? value.get<uint64_t>() <= static_cast<uint64_t>(kHigh)
                        : value.get<int64_t>() >= kLow && value.get<int64_t>() <= kHigh;
  if (!fits) {
    const std::string digits = value.is_number_unsigned() ? std::to_string(value.get<uint64_t>())
                                                          : std::to_string(value.get<int64_t>());
    fail(Status::error(StatusCode::kLimitExceeded, "%s: %s is %s, expected a 32-bit integer",
                       where_.c_str(), key, digits.c_str()));
    return 0;
  }
  return static_cast<int32_t>(value.get<int64_t>());
}

int32_t JsonFields::integer(const char* key) {
  if (const Json* value = find(key)) return as_integer(key, *value);
  missing(key);
  return 0;
}

int32_t JsonFields::integer_or(const char* key, int32_t fallback) {
  const Json* value = find(key);
  return value != nullptr ? as_integer(key, *value) : fallback;
}

double JsonFields::number(const char* key) {
  if (!has(key)) missing(key);
  return number_or(key, 0.0);
}

double JsonFields::number_or(const char* key, double fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_number()) return value->get<double>();
  wrong_type(key, "a number", *value);
  return fallback;
}

bool JsonFields::boolean_or(const char* key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  wrong_type(key, "true or false", *value);
  return fallback;
}

std::string JsonFields::string(const char* key) {
  if (!has(key)) missing(key);
  return string_or(key, "");
}

std::string JsonFields::string_or(const char* key, const char* fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_string()) return value->get<std::string>();
  wrong_type(key, "a string", *value);
  return fallback;
}

}  // namespace flexq
