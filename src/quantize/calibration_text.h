// The text that precision is chosen by, as windows of tokens.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

namespace flexq {

// Windows of one length, one after the other.
struct CalibrationText {
  int32_t window_tokens = 0;
  std::vector<int32_t> tokens;  // (n_windows, window_tokens)

  int32_t n_windows() const {
    return window_tokens > 0 ? static_cast<int32_t>(tokens.size()) / window_tokens : 0;
  }
  std::span<const int32_t> window(int32_t index) const {
    return std::span(tokens).subspan(
        static_cast<size_t>(index) * static_cast<size_t>(window_tokens),
        static_cast<size_t>(window_tokens));
  }
};

inline constexpr int32_t kCalibrationWindowTokens = 512;
inline constexpr int32_t kMinCalibrationWindows = 4;
inline constexpr int32_t kMaxCalibrationWindows = 4096;

// The text tokenised whole with one BOS and cut into consecutive windows of 512 tokens, or of the
// model's context where that is shorter; of these up to max_windows, spread evenly over the text:
// a function of the text only. kInvalidArgument for a text that is empty, not UTF-8, or shorter
// than kMinCalibrationWindows windows; kLimitExceeded for one longer than the tokenizer takes.
Result<CalibrationText> make_calibration_text(const Tokenizer& tokenizer, std::string_view text,
                                              int32_t context_tokens, int32_t max_windows);

}  // namespace flexq
