#include "text/stop_matcher.h"

#include <algorithm>

#include "text/utf8.h"

namespace flexq {

Result<StopMatcher> StopMatcher::create(std::span<const std::string> stop_strings) {
  if (stop_strings.size() > static_cast<size_t>(kMaxStopStrings))
    return Status::error(StatusCode::kLimitExceeded, "%zu stop strings, at most %d are supported",
                         stop_strings.size(), kMaxStopStrings);
  StopMatcher matcher;
  for (const std::string& bytes : stop_strings) {
    const size_t index = matcher.patterns_.size();
    if (bytes.size() > static_cast<size_t>(kMaxStopStringBytes))
      return Status::error(StatusCode::kLimitExceeded,
                           "stop string %zu has %zu bytes, at most %lld are supported", index,
                           bytes.size(), static_cast<long long>(kMaxStopStringBytes));
    if (bytes.empty())
      return Status::error(StatusCode::kInvalidArgument, "stop string %zu is empty", index);
    if (!is_valid_utf8(bytes))
      return Status::error(StatusCode::kInvalidArgument, "stop string %zu is not valid UTF-8",
                           index);
    Pattern pattern{bytes, std::vector<uint16_t>(bytes.size()), 0};
    uint16_t border = 0;
    for (size_t i = 1; i < bytes.size(); ++i) {
      while (border > 0 && bytes[i] != bytes[border])
        border = pattern.failure[border - 1u];
      if (bytes[i] == bytes[border]) ++border;
      pattern.failure[i] = border;
    }
    matcher.patterns_.push_back(std::move(pattern));
  }
  return matcher;
}

void StopMatcher::push(std::string_view text, std::string& out) {
  if (matched_ >= 0) return;
  if (patterns_.empty()) {
    out.append(text);
    return;
  }
  for (const char byte : text) {
    held_.push_back(byte);
    size_t match_bytes = 0;
    for (size_t index = 0; index < patterns_.size(); ++index) {
      Pattern& pattern = patterns_[index];
      uint16_t& n = pattern.n_matched;
      while (n > 0 && pattern.bytes[n] != byte)
        n = pattern.failure[n - 1u];
      if (pattern.bytes[n] == byte) ++n;
      if (n == pattern.bytes.size() && n > match_bytes) {
        match_bytes = n;
        matched_ = static_cast<int32_t>(index);
      }
    }
    if (match_bytes > 0) {
      held_.resize(held_.size() - match_bytes);
      finish(out);
      return;
    }
  }
  size_t n_held = 0;  // the longest end of the text that begins some stop string
  for (const Pattern& pattern : patterns_)
    n_held = std::max<size_t>(n_held, pattern.n_matched);
  out.append(held_, 0, held_.size() - n_held);
  held_.erase(0, held_.size() - n_held);
}

void StopMatcher::finish(std::string& out) {
  out.append(held_);
  held_.clear();
}

}  // namespace flexq
