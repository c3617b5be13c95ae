// Finds stop strings in text that arrives in pieces.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace flexq {

inline constexpr int32_t kMaxStopStrings = 64;
inline constexpr int64_t kMaxStopStringBytes = 1024;

// The match is the one that ends first; among those that end at the same byte, the longest. That
// does not depend on how the text was cut into pieces. Text that could be the beginning of a stop
// string is held back until that is decided. O(stop strings) per byte; no allocation once the
// held text has reached its greatest length.
class StopMatcher {
 public:
  // kLimitExceeded beyond the two limits above; kInvalidArgument for an empty stop string or one
  // that is not valid UTF-8 (such a one could cut a character in two). No stop strings is fine.
  static Result<StopMatcher> create(std::span<const std::string> stop_strings);

  // Takes the next piece and appends to `out` the text that is now certain to precede every match.
  // From the match on, everything is dropped.
  void push(std::string_view text, std::string& out);

  // The end of the text: appends what was held back.
  void finish(std::string& out);

  // Which stop string was found (index into create()'s list), or -1.
  int32_t matched() const { return matched_; }

 private:
  struct Pattern {
    std::string bytes;
    // Knuth-Morris-Pratt: failure[i] is the length of the longest proper prefix of bytes[0..i]
    // that is also its suffix.
    std::vector<uint16_t> failure;
    uint16_t n_matched = 0;  // bytes of this pattern that the text seen so far ends with
  };

  std::vector<Pattern> patterns_;
  std::string held_;  // not yet handed out
  int32_t matched_ = -1;
};

}  // namespace flexq
