// Threads that serve connections: started as they are needed, up to a limit; sockets beyond that
// wait.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace flexq_tool {

class ConnectionThreads {
 public:
  // serve(socket) takes the socket over and does not throw.
  ConnectionThreads(int max_threads, std::function<void(int)> serve);
  ~ConnectionThreads();  // as finish()
  ConnectionThreads(const ConnectionThreads&) = delete;
  ConnectionThreads& operator=(const ConnectionThreads&) = delete;

  void add(int socket);
  bool has_waiting() const;
  // Serves what waits and ends the threads.
  void finish();

 private:
  void work();

  const size_t max_threads_;
  const std::function<void(int)> serve_;
  mutable std::mutex mutex_;
  std::condition_variable has_work_;
  std::deque<int> sockets_;
  std::vector<std::thread> threads_;
  size_t n_idle_ = 0;
  bool is_finishing_ = false;
};

}  // namespace flexq_tool
