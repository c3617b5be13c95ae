#include "line_input.h"

#include <unistd.h>

#include <cerrno>

#include "interrupt.h"

namespace flexq_tool {

LineInput::Outcome LineInput::next(std::string& line) {
  size_t searched = 0;  // bytes of the buffer that hold no line break
  for (;;) {
    const size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos) {
      line.assign(buffer_, 0, end);
      buffer_.erase(0, end + 1);
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return Outcome::kLine;
    }
    if (at_end_) {
      line.swap(buffer_);
      buffer_.clear();
      return line.empty() ? Outcome::kEnd : Outcome::kLine;
    }
    searched = buffer_.size();
    char block[4096];
    if (interrupt_signal() != 0) return Outcome::kInterrupted;
    const ssize_t n_read = read(STDIN_FILENO, block, sizeof block);
    if (n_read > 0) {
      buffer_.append(block, static_cast<size_t>(n_read));
    } else if (n_read == 0) {
      at_end_ = true;
    } else if (errno == EINTR && interrupt_signal() != 0) {
      return Outcome::kInterrupted;
    } else if (errno != EINTR) {
      return Outcome::kFailed;
    }
  }
}

}  // namespace flexq_tool
