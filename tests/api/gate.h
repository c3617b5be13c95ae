// A door between two threads of a test: shut until one opens it.
#pragma once

#include <condition_variable>
#include <mutex>

namespace flexq::test {

class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

// A callback that stops in the middle of a call: says that it is inside and waits to be let on.
struct Pause {
  Gate inside;
  Gate go_on;
  void pass() {
    inside.open();
    go_on.wait();
  }
};

}  // namespace flexq::test
