#include "serve/serve_signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>

namespace flexq_tool {
namespace {

void raise_event(int event) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(event, &one, sizeof one);
}

}  // namespace

ServeSignals::ServeSignals()
    : stop_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      wake_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  sigset_t hangup;
  sigemptyset(&hangup);
  sigaddset(&hangup, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &hangup, nullptr);
  hangup_ = signalfd(-1, &hangup, SFD_CLOEXEC | SFD_NONBLOCK);
}

ServeSignals::~ServeSignals() {
  for (const int descriptor : {hangup_, stop_event_, wake_event_})
    close(descriptor);
}

ServeSignals::Event ServeSignals::wait() {
  const InterruptWatcher watcher([this] { raise_event(stop_event_); });
  pollfd events[] = {{stop_event_, POLLIN, 0}, {hangup_, POLLIN, 0}};
  for (;;) {
    if (poll(events, 2, -1) <= 0) continue;  // EINTR: the watcher tells
    if (events[0].revents != 0) return Event::kStop;
    signalfd_siginfo info = {};
    if (read(hangup_, &info, sizeof info) == sizeof info) return Event::kReload;
  }
}

bool ServeSignals::wait_for_wake(std::chrono::milliseconds time) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + time;
  pollfd event = {wake_event_, POLLIN, 0};
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    if (poll(&event, 1, static_cast<int>(left.count())) > 0) return true;
  }
}

void ServeSignals::wake() {
  raise_event(wake_event_);
}

}  // namespace flexq_tool
