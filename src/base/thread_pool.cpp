#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cfenv>
#include <chrono>
#include <vector>

#include "base/blocked_signals.h"
#include "base/log.h"

namespace flexq {
namespace {

// How long a thread looks for work (or for the last worker) before it sleeps in the kernel. The
// steps of one forward pass follow each other within this time; waking a sleeper costs about 50 us.
constexpr std::chrono::microseconds kSpinTime{200};

void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Whether `condition` became true within kSpinTime.
template <typename Condition>
bool spin_until(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 16; ++i) {
      if (condition()) return true;
      cpu_relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace

// One job at a time. The caller fills in the job while it is closed and nobody is inside, opens it,
// works as thread 0, closes it and waits for those inside. A worker that wakes up too late finds it
// closed and goes back to sleep: nobody waits for a worker that has nothing to do.
struct ThreadPool::Impl {
  using Body = FunctionRef<void(int64_t task, int thread)>;
  static constexpr uint32_t kClosed = 0x80000000u;  // in `job`; the other bits count workers inside

  struct Worker {
    Impl* pool = nullptr;
    int thread = 0;  // 1 and up
    pthread_t handle{};
  };

  int n_threads = 1;
  bool spin = true;
  bool started = false;         // guarded by `busy`
  std::vector<Worker> workers;  // n_threads - 1, of which the first n_workers run
  int n_workers = 0;

  std::atomic<bool> busy{false};           // a caller owns the pool
  std::atomic<bool> stopping{false};       // the destructor wants the workers to return
  std::atomic<uint32_t> announcements{0};  // changes when there may be a job: workers sleep on it
  std::atomic<uint32_t> job{kClosed};      // the caller sleeps on it
  std::atomic<int64_t> next_task{0};
  int64_t n_tasks = 0;         // guarded by `job`
  const Body* body = nullptr;  // guarded by `job`

  void run_tasks(int thread) {
    while (true) {
      const int64_t task = next_task.fetch_add(1, std::memory_order_relaxed);
      if (task >= n_tasks) return;
      (*body)(task, thread);
    }
  }

  // Joins the open job, if there is one, and works until no task is left.
  void help(int thread) {
    uint32_t state = job.load(std::memory_order_relaxed);
    do {
      if ((state & kClosed) != 0) return;
    } while (!job.compare_exchange_weak(state, state + 1, std::memory_order_acquire,
                                        std::memory_order_relaxed));
    run_tasks(thread);
    if (job.fetch_sub(1, std::memory_order_seq_cst) == (kClosed | 1)) job.notify_one();
  }

  // Sequentially consistent, like the fetch_sub above: notify looks for sleepers after the change,
  // sleepers look for a change after they have said that they sleep.
  void announce() {
    announcements.fetch_add(1, std::memory_order_seq_cst);
    announcements.notify_all();
  }

  void work(int thread) {
    // The host may have changed its floating-point environment, which threads inherit.
    fesetenv(FE_DFL_ENV);
    uint32_t seen = 0;
    while (true) {
      const auto changed = [&] { return announcements.load(std::memory_order_acquire) != seen; };
      if (!(spin && spin_until(changed))) announcements.wait(seen, std::memory_order_acquire);
      seen = announcements.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_acquire)) return;
      help(thread);
    }
  }

  void start_workers() {
    started = true;
    const BlockedSignals blocked;  // the host's handlers run on its own threads
    for (Worker& worker : workers) {
      worker.pool = this;
      worker.thread = n_workers + 1;
      const auto entry = [](void* argument) -> void* {
        const auto* self = static_cast<const Worker*>(argument);
        self->pool->work(self->thread);
        return nullptr;
      };
      if (pthread_create(&worker.handle, nullptr, entry, &worker) != 0) break;
      pthread_setname_np(worker.handle, "flexq-worker");
      ++n_workers;
    }
    if (n_workers + 1 < n_threads)
      log(LogLevel::kWarning, "thread pool: %d threads wanted, only %d could be started", n_threads,
          n_workers + 1);
  }

  void run_job(int64_t tasks, const Body& job_body) {
    n_tasks = tasks;
    body = &job_body;
    next_task.store(0, std::memory_order_relaxed);
    job.store(0, std::memory_order_release);
    announce();
    run_tasks(0);
    job.fetch_or(kClosed, std::memory_order_relaxed);
    const auto all_left = [&] { return job.load(std::memory_order_acquire) == kClosed; };
    if (spin && spin_until(all_left)) return;
    uint32_t state = job.load(std::memory_order_acquire);
    while (state != kClosed) {
      job.wait(state, std::memory_order_acquire);
      state = job.load(std::memory_order_acquire);
    }
  }
};

ThreadPool::ThreadPool(int n_threads) : impl_(std::make_unique<Impl>()) {
  impl_->n_threads = std::clamp(n_threads, 1, kMaxThreads);
  // With more threads than CPUs a spinning thread would hold up the one it waits for.
  impl_->spin = impl_->n_threads <= available_cpus();
  impl_->workers.resize(static_cast<size_t>(impl_->n_threads - 1));
}

ThreadPool::~ThreadPool() {
  impl_->stopping.store(true, std::memory_order_release);
  impl_->announce();
  for (int i = 0; i < impl_->n_workers; ++i)
    pthread_join(impl_->workers[static_cast<size_t>(i)].handle, nullptr);
}

int ThreadPool::n_threads() const {
  return impl_->n_threads;
}

void ThreadPool::parallel_for(int64_t n_tasks, FunctionRef<void(int64_t task, int thread)> body) {
  if (n_tasks > 1 && impl_->n_threads > 1 &&
      !impl_->busy.exchange(true, std::memory_order_acquire)) {
    if (!impl_->started) impl_->start_workers();
    impl_->run_job(n_tasks, body);
    impl_->busy.store(false, std::memory_order_release);
    return;
  }
  for (int64_t task = 0; task < n_tasks; ++task)
    body(task, 0);
}

int available_cpus() {
  // The kernel refuses a mask smaller than the machine's: grow it until it fits.
  for (size_t n_cpus = 1024; n_cpus <= (1u << 20); n_cpus *= 2) {
    cpu_set_t* mask = CPU_ALLOC(n_cpus);
    if (mask == nullptr) return 1;
    const size_t bytes = CPU_ALLOC_SIZE(n_cpus);
    const int result = sched_getaffinity(0, bytes, mask);
    const int error_number = errno;
    const int count = result == 0 ? CPU_COUNT_S(bytes, mask) : 0;
    CPU_FREE(mask);
    if (result == 0) return std::max(1, count);
    if (error_number != EINVAL) return 1;
  }
  return 1;
}

}  // namespace flexq
