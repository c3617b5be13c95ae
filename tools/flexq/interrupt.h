// Ctrl-C and SIGTERM: the handler only notes the signal; callbacks and a watcher act on it. A
// second signal of the same kind ends the process at once.
#pragma once

#include <functional>
#include <thread>

namespace flexq_tool {

// Takes over SIGINT and SIGTERM, except where the parent process had them ignored.
void install_interrupt_handler();

// The signal that came first; 0 while there was none.
int interrupt_signal();

// Forgets the signal that came, which one call took as meant for it alone: the next signal is again
// a first one. Only while no watcher lives.
void clear_interrupt();

// While it lives, calls `action` once on a thread of its own as soon as a signal comes, also when
// that was before the construction. For work that reports no progress for a while.
class InterruptWatcher {
 public:
  explicit InterruptWatcher(std::function<void()> action);
  ~InterruptWatcher();  // returns when the action is not running any more
  InterruptWatcher(const InterruptWatcher&) = delete;
  InterruptWatcher& operator=(const InterruptWatcher&) = delete;

 private:
  void watch();

  std::function<void()> action_;
  int stop_event_;
  std::thread thread_;
};

}  // namespace flexq_tool
