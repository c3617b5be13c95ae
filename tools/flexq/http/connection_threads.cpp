#include "connection_threads.h"

#include <unistd.h>

#include <csignal>
#include <system_error>
#include <utility>

namespace flexq_tool {

ConnectionThreads::ConnectionThreads(int max_threads, std::function<void(int)> serve)
    : max_threads_(static_cast<size_t>(max_threads)), serve_(std::move(serve)) {}

ConnectionThreads::~ConnectionThreads() {
  finish();
}

void ConnectionThreads::add(int socket) {
  const std::lock_guard lock(mutex_);
  sockets_.push_back(socket);
  if (n_idle_ >= sockets_.size() || threads_.size() == max_threads_) {
    has_work_.notify_one();
    return;
  }
  // Signals belong to the main thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    // As many threads as the system gives; without any, nobody would ever serve the socket.
    if (threads_.empty()) {
      close(sockets_.back());
      sockets_.pop_back();
    }
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool ConnectionThreads::has_waiting() const {
  const std::lock_guard lock(mutex_);
  return sockets_.size() > n_idle_;
}

void ConnectionThreads::finish() {
  {
    const std::lock_guard lock(mutex_);
    is_finishing_ = true;
  }
  has_work_.notify_all();
  for (std::thread& thread : threads_)
    thread.join();
  threads_.clear();
}

void ConnectionThreads::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++n_idle_;
    has_work_.wait(lock, [this] { return !sockets_.empty() || is_finishing_; });
    --n_idle_;
    if (sockets_.empty()) return;
    const int socket = sockets_.front();
    sockets_.pop_front();
    lock.unlock();
    serve_(socket);
    lock.lock();
  }
}

}  // namespace flexq_tool
