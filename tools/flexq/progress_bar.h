// A progress bar on standard error, drawn only where that is a terminal; also the place where long
// operations of the library learn that a signal asks them to end.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace flexq_tool {

class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();  // erases the bar
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(int64_t done, int64_t total);

  // For flexq_progress_callback parameters, with the ProgressBar* as user_data. Non-zero (cancel)
  // after SIGINT or SIGTERM.
  static int32_t callback(int64_t done, int64_t total, void* progress_bar);

 private:
  using Clock = std::chrono::steady_clock;

  // ", 40 s left"; empty where that is not known or short.
  std::string remaining_text(double part) const;

  const std::string label_;
  const bool is_terminal_;
  const Clock::time_point begin_;
  Clock::time_point next_draw_;
  bool is_drawn_ = false;
};

}  // namespace flexq_tool
