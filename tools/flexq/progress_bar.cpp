#include "progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "interrupt.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

// Operations that take less show no bar at all.
constexpr auto kFirstDrawAfter = std::chrono::milliseconds(300);
constexpr auto kRedrawAfter = std::chrono::milliseconds(100);
constexpr int64_t kBarCells = 40;

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)),
      is_terminal_(isatty(STDERR_FILENO) == 1),
      begin_(Clock::now()),
      next_draw_(begin_ + kFirstDrawAfter) {}

ProgressBar::~ProgressBar() {
  if (is_drawn_) (void)write_all(STDERR_FILENO, "\r\x1b[K");
}

std::string ProgressBar::remaining_text(double part) const {
  // What is left at the speed so far; nothing before there is one, or where it is nothing to wait
  // for.
  constexpr double kLeastPart = 0.02;
  if (part < kLeastPart) return "";
  const std::chrono::duration<double> elapsed = Clock::now() - begin_;
  const auto seconds = static_cast<int64_t>(elapsed.count() * (1 - part) / part);
  if (seconds < 2) return "";
  if (seconds < 120) return ", " + std::to_string(seconds) + " s left";
  return ", " + std::to_string((seconds + 30) / 60) + " min left";
}

void ProgressBar::update(int64_t done, int64_t total) {
  if (!is_terminal_ || Clock::now() < next_draw_) return;
  next_draw_ = Clock::now() + kRedrawAfter;
  is_drawn_ = true;
  const double part =
      total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 0;
  const auto full = static_cast<size_t>(part * kBarCells);
  (void)write_all(STDERR_FILENO, "\r" + label_ + " [" + std::string(full, '#') +
                                     std::string(kBarCells - full, '.') + "] " +
                                     fixed(100 * part, 0) + "%" + remaining_text(part) + "\x1b[K");
}

int32_t ProgressBar::callback(int64_t done, int64_t total, void* progress_bar) {
  static_cast<ProgressBar*>(progress_bar)->update(done, total);
  return interrupt_signal() != 0 ? 1 : 0;
}

}  // namespace flexq_tool
