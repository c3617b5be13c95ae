#include "memory_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <limits>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace flexq_tool {
namespace {

constexpr size_t kBytes = size_t{1} << 30;
constexpr size_t kWords = kBytes / sizeof(uint64_t);
constexpr int kRuns = 5;

// Where sums go, so that the compiler cannot leave them out.
std::atomic<uint64_t> g_sum{0};

}  // namespace

double measure_read_bandwidth(int32_t n_threads) {
  using Clock = std::chrono::steady_clock;
  const auto n = static_cast<size_t>(std::max(n_threads, 1));
  // Not initialised here: each thread touches its own part first, which places it near the thread.
  const std::unique_ptr<uint64_t[]> words(new uint64_t[kWords]);
  Clock::time_point begin;
  double best_seconds = std::numeric_limits<double>::infinity();
  bool is_initialised = false;
  std::barrier barrier(static_cast<std::ptrdiff_t>(n), [&]() noexcept {
    const Clock::time_point now = Clock::now();
    if (is_initialised) {
      best_seconds = std::min(best_seconds, std::chrono::duration<double>(now - begin).count());
    }
    is_initialised = true;
    begin = now;
  });
  const auto work = [&](size_t thread) {
    uint64_t* first = words.get() + kWords / n * thread;
    uint64_t* last = thread + 1 == n ? words.get() + kWords : first + kWords / n;
    std::fill(first, last, thread);
    barrier.arrive_and_wait();
    for (int i = 0; i < kRuns; ++i) {
      g_sum += std::accumulate(first, last, uint64_t{0});
      barrier.arrive_and_wait();
    }
  };
  std::vector<std::jthread> threads;
  try {
    for (size_t i = 1; i < n; ++i)
      threads.emplace_back(work, i);
  } catch (...) {  // no more threads to be had: let those that wait go, and give up
    for (size_t i = threads.size(); i < n; ++i)
      barrier.arrive_and_drop();
    throw;
  }
  work(0);
  return static_cast<double>(kBytes) / best_seconds;
}

}  // namespace flexq_tool
