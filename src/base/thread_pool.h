// The library's own thread pool: no OpenMP, so that ThreadSanitizer understands it and the host's
// OpenMP is left alone. No thread is started before the first parallel_for that needs one; all
// signals are blocked in workers.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace flexq {

// A borrowed callable: two words, no allocation. Must not outlive what it refers to.
template <typename Signature>
class FunctionRef;
template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
 public:
  template <typename F, typename = std::enable_if_t<!std::is_same_v<std::decay_t<F>, FunctionRef>>>
  FunctionRef(F&& f)  // NOLINT: implicit on purpose
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(static_cast<Args&&>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, static_cast<Args&&>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

class ThreadPool {
 public:
  // n_threads counts the calling thread: 1 means no workers. Clamped to [1, kMaxThreads].
  static constexpr int kMaxThreads = 256;
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const;

  // Calls body(task, thread) once for every task in [0, n_tasks) and returns when all are done.
  // thread in [0, n_threads) is stable within a task: an index for per-thread scratch, which the
  // caller of parallel_for must own (two callers may run at once: the pool serves one of them and
  // the other runs its tasks alone, as thread 0). Tasks are claimed in ascending order by whoever
  // is free, so results must not depend on the distribution. `body` must not throw and must not
  // call parallel_for on the same pool. Allocates nothing after the workers have been started;
  // if workers cannot be started it runs with fewer.
  void parallel_for(int64_t n_tasks, FunctionRef<void(int64_t task, int thread)> body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Threads that the process may run on (its CPU affinity mask), at least 1.
int available_cpus();

}  // namespace flexq
