// What the main thread of the server waits for: SIGHUP, SIGINT and SIGTERM.
#pragma once

#include <chrono>

#include "interrupt.h"

namespace flexq_tool {

class ServeSignals {
 public:
  enum class Event { kReload, kStop, kTimeout };

  // Takes over SIGHUP: construct it before the first thread starts.
  ServeSignals();
  ~ServeSignals();
  ServeSignals(const ServeSignals&) = delete;
  ServeSignals& operator=(const ServeSignals&) = delete;

  // kStop once SIGINT or SIGTERM has come.
  Event wait();
  // Waits until wake() was called: true; false: the time was over.
  bool wait_for_wake(std::chrono::milliseconds time);
  // From any thread.
  void wake();

 private:
  int hangup_;
  int stop_event_;
  int wake_event_;
};

}  // namespace flexq_tool
