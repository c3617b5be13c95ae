#include "base/thread_pool.h"

#include <doctest/doctest.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"

namespace flexq {
namespace {

int process_threads() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task"))
    ++count;
  return count;
}

// Runs n_tasks and checks that each ran once, on a thread index in range.
void check_each_task_once(ThreadPool& pool, int64_t n_tasks) {
  std::vector<int> runs(static_cast<size_t>(n_tasks), 0);  // plain: each task owns its element
  std::vector<int64_t> per_thread(static_cast<size_t>(pool.n_threads()), 0);
  pool.parallel_for(n_tasks, [&](int64_t task, int thread) {
    ++runs[static_cast<size_t>(task)];
    ++per_thread[static_cast<size_t>(thread)];
  });
  REQUIRE(std::count(runs.begin(), runs.end(), 1) == n_tasks);
  int64_t total = 0;
  for (const int64_t count : per_thread)
    total += count;
  REQUIRE(total == n_tasks);
}

TEST_CASE("thread pool: every task runs exactly once") {
  for (const int n_threads : {1, 2, 3, 8}) {
    ThreadPool pool(n_threads);
    CHECK(pool.n_threads() == n_threads);
    for (const int64_t n_tasks : {0, 1, 2, 7, 1000, 100000})
      check_each_task_once(pool, n_tasks);
    for (int round = 0; round < 2000; ++round)
      check_each_task_once(pool, round % 5);
  }
}

TEST_CASE("thread pool: what a job wrote is seen by the caller and by the next job") {
  ThreadPool pool(4);
  std::vector<int64_t> values(64, 0);
  for (int64_t step = 1; step <= 500; ++step) {
    pool.parallel_for(64, [&](int64_t task, int) {
      // Reads a neighbour that another thread may have written in the previous job.
      const auto i = static_cast<size_t>(task);
      if (step % 2 == 1) {
        values[i] = values[i] + 1;
      } else if (i % 2 == 0) {
        std::swap(values[i], values[i + 1]);
      }
    });
  }
  for (const int64_t value : values)
    REQUIRE(value == 250);
}

TEST_CASE("thread pool: two callers at once both finish, one of them alone") {
  ThreadPool pool(3);
  const auto caller = [&pool] {
    for (int round = 0; round < 500; ++round)
      check_each_task_once(pool, 50);
  };
  std::thread other(caller);
  caller();
  other.join();

  // While one caller holds the pool, the other runs everything itself as thread 0.
  std::atomic<bool> inside{false};
  std::atomic<bool> finished{false};
  std::thread holder([&] {
    pool.parallel_for(2, [&](int64_t, int) {
      inside = true;
      while (!finished)
        std::this_thread::yield();
    });
  });
  while (!inside)
    std::this_thread::yield();
  std::vector<int64_t> order;
  pool.parallel_for(5, [&](int64_t task, int thread) {
    CHECK(thread == 0);
    order.push_back(task);
  });
  finished = true;
  holder.join();
  CHECK(order == std::vector<int64_t>{0, 1, 2, 3, 4});
}

TEST_CASE("thread pool: lazy start, all signals blocked, everything joined") {
  const int before = process_threads();
  {
    ThreadPool pool(4);
    CHECK(process_threads() == before);
    pool.parallel_for(1, [](int64_t, int) {});
    CHECK(process_threads() == before);

    std::atomic<int> arrived{0};
    std::atomic<int> unblocked{0};
    // Every thread takes one task: none returns before all four have arrived.
    pool.parallel_for(4, [&](int64_t, int thread) {
      sigset_t mask;
      pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      const bool blocked = sigismember(&mask, SIGINT) == 1 && sigismember(&mask, SIGTERM) == 1 &&
                           sigismember(&mask, SIGPROF) == 1;
      if (blocked != (thread != 0)) ++unblocked;
      ++arrived;
      while (arrived < 4)
        std::this_thread::yield();
    });
    CHECK(unblocked == 0);
    CHECK(process_threads() == before + 3);
  }
  CHECK(process_threads() == before);
}

TEST_CASE("thread pool: threads that cannot be started are done without, with a warning") {
  // A default stack larger than the address space makes pthread_create fail.
  pthread_attr_t usual;
  REQUIRE(pthread_getattr_default_np(&usual) == 0);
  pthread_attr_t impossible;
  REQUIRE(pthread_attr_init(&impossible) == 0);
  REQUIRE(pthread_attr_setstacksize(&impossible, size_t{1} << 50) == 0);
  REQUIRE(pthread_setattr_default_np(&impossible) == 0);
  std::string warning;
  set_log_callback([](int32_t, const char* text, int64_t,
                      void* user_data) { *static_cast<std::string*>(user_data) = text; },
                   LogLevel::kWarning, &warning);
  {
    ThreadPool pool(4);
    check_each_task_once(pool, 1000);
    check_each_task_once(pool, 1000);
  }
  set_log_callback(nullptr, LogLevel::kError, nullptr);
  REQUIRE(pthread_setattr_default_np(&usual) == 0);
  pthread_attr_destroy(&impossible);
  pthread_attr_destroy(&usual);
  CHECK(warning == "thread pool: 4 threads wanted, only 1 could be started");
}

TEST_CASE("thread pool: sizes are clamped") {
  CHECK(ThreadPool(0).n_threads() == 1);
  CHECK(ThreadPool(-5).n_threads() == 1);
  CHECK(ThreadPool(1 << 20).n_threads() == ThreadPool::kMaxThreads);
  CHECK(available_cpus() >= 1);
}

}  // namespace
}  // namespace flexq
