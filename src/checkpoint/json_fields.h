// Typed access to the members of a JSON object, as config.json and its relatives need it: null
// means absent, and a value of another type is an error that names the file and the key.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/json.h"
#include "base/status.h"

namespace flexq {

// Reads members of one object and remembers the first failure, so that a parser can read all its
// fields and ask once; a read that fails returns the fallback, 0 or "". Borrows the object.
class JsonFields {
 public:
  // `object` must be a JSON object. `where` leads every message: "DIR/config.json", or
  // "DIR/config.json: rope_scaling".
  JsonFields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  // The member, or null when it is absent or JSON null.
  const Json* find(const char* key) const;
  bool has(const char* key) const { return find(key) != nullptr; }

  // Required values. An integer must fit int32_t.
  int32_t integer(const char* key);
  double number(const char* key);
  std::string string(const char* key);
  // Optional values.
  int32_t integer_or(const char* key, int32_t fallback);
  double number_or(const char* key, double fallback);
  bool boolean_or(const char* key, bool fallback);
  std::string string_or(const char* key, const char* fallback);

  // An integer that stands under `key`, alone or in a list (checked like integer()).
  int32_t as_integer(const char* key, const Json& value);

  const std::string& where() const { return where_; }
  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }

 private:
  void fail(Status status);
  void missing(const char* key);
  void wrong_type(const char* key, const char* expected, const Json& found);

  const Json& object_;
  std::string where_;
  Status status_;
};

}  // namespace flexq
