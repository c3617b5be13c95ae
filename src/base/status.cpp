#include "base/status.h"

#include <cstdarg>
#include <cstdio>

namespace flexq {

Status Status::error(StatusCode code, const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  Status status;
  status.code_ = code;
  status.message_ = text;
  return status;
}

void Status::format_message(char* buffer, int64_t capacity) const {
  if (capacity <= 0) return;
  if (oom_what_ != nullptr && oom_free_bytes_ >= 0) {
    snprintf(buffer, static_cast<size_t>(capacity),
             "out of memory: %s needs %lld bytes, %lld are free", oom_what_,
             static_cast<long long>(oom_bytes_), static_cast<long long>(oom_free_bytes_));
  } else if (oom_what_ != nullptr) {
    snprintf(buffer, static_cast<size_t>(capacity), "out of memory: %s needs %lld bytes", oom_what_,
             static_cast<long long>(oom_bytes_));
  } else {
    snprintf(buffer, static_cast<size_t>(capacity), "%s", message_.c_str());
  }
}

std::string Status::message() const {
  char text[1024];
  format_message(text, sizeof text);
  return text;
}

Status Status::with_context(const std::string& context) && {
  if (!ok() && oom_what_ == nullptr) message_ = context + ": " + message_;
  return std::move(*this);
}

}  // namespace flexq
