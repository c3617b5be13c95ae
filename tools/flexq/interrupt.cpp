#include "interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <utility>

namespace flexq_tool {
namespace {

std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free,
              "a signal handler may only touch such atomics");

// Readable from the first signal on, until clear_interrupt().
int g_signal_event = -1;

void raise_event(int event) {
  const uint64_t one = 1;
  // Fails only when the event is already raised 2^64 - 2 times.
  [[maybe_unused]] const ssize_t written = write(event, &one, sizeof one);
}

void on_signal(int signal_number) {
  const int saved_errno = errno;
  int none = 0;
  g_signal.compare_exchange_strong(none, signal_number);
  raise_event(g_signal_event);
  errno = saved_errno;
}

void take_over_signals() {
  for (const int signal_number : {SIGINT, SIGTERM}) {
    struct sigaction old_action = {};
    sigaction(signal_number, nullptr, &old_action);
    if (old_action.sa_handler == SIG_IGN) continue;
    struct sigaction action = {};
    action.sa_handler = on_signal;
    // No SA_RESTART: a read from a terminal must end.
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(signal_number, &action, nullptr);
  }
}

}  // namespace

void install_interrupt_handler() {
  g_signal_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  take_over_signals();
}

int interrupt_signal() {
  return g_signal.load();
}

void clear_interrupt() {
  uint64_t count = 0;
  // Fails where no signal raised the event.
  [[maybe_unused]] const ssize_t n_read = read(g_signal_event, &count, sizeof count);
  g_signal.store(0);
  take_over_signals();
}

InterruptWatcher::InterruptWatcher(std::function<void()> action)
    : action_(std::move(action)), stop_event_(eventfd(0, EFD_CLOEXEC)) {
  // The thread starts with all signals blocked: they belong to the main thread, whose system calls
  // they must end.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { watch(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

InterruptWatcher::~InterruptWatcher() {
  raise_event(stop_event_);
  thread_.join();
  close(stop_event_);
}

void InterruptWatcher::watch() {
  pollfd events[] = {{stop_event_, POLLIN, 0}, {g_signal_event, POLLIN, 0}};
  while (poll(events, 2, -1) < 0) {
    if (errno != EINTR) return;
  }
  if (events[1].revents != 0 && interrupt_signal() != 0) action_();
}

}  // namespace flexq_tool
