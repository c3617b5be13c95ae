#include "quantize/calibration_text.h"

#include <algorithm>

#include "text/utf8.h"

namespace flexq {

Result<CalibrationText> make_calibration_text(const Tokenizer& tokenizer, std::string_view text,
                                              int32_t context_tokens, int32_t max_windows) {
  if (text.empty())
    return Status::error(StatusCode::kInvalidArgument,
                         "calibration text: expected text, found none");
  if (!is_valid_utf8(text))
    return Status::error(StatusCode::kInvalidArgument,
                         "calibration text: expected UTF-8, found bytes that are not");
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, tokenizer.encode(text));
  CalibrationText calibration;
  calibration.window_tokens = std::min(kCalibrationWindowTokens, context_tokens);
  const int64_t n_all = static_cast<int64_t>(tokens.size()) / calibration.window_tokens;
  if (n_all < kMinCalibrationWindows)
    return Status::error(StatusCode::kInvalidArgument,
                         "calibration text: expected at least %d windows of %d tokens, found %zu "
                         "tokens",
                         kMinCalibrationWindows, calibration.window_tokens, tokens.size());
  const int64_t n_windows = std::min<int64_t>(n_all, max_windows);
  for (int64_t i = 0; i < n_windows; ++i) {
    const auto begin = tokens.begin() + i * n_all / n_windows * calibration.window_tokens;
    calibration.tokens.insert(calibration.tokens.end(), begin, begin + calibration.window_tokens);
  }
  return calibration;
}

}  // namespace flexq
