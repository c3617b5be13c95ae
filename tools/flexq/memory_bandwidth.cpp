#include "memory_bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <limits>
#include <new>
#include <thread>
#include <vector>

namespace flexq_tool {
namespace {

constexpr size_t kBytes = size_t{1} << 30;
constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kLineWords = 8;  // a cache line
constexpr int kRuns = 3;
constexpr size_t kLines = kBytes / sizeof(uint64_t) / kLineWords;

// Where sums go, so that the compiler cannot leave them out.
std::atomic<uint64_t> g_sum{0};

// Reads every line once, asked for ahead as the library's kernels do: left to itself, the processor
// stops looking ahead at every 4 KiB.
uint64_t sum_lines(const uint64_t* words, size_t n_lines) {
  constexpr size_t kNearWords = 1024 / sizeof(uint64_t);
  constexpr size_t kFarWords = 6144 / sizeof(uint64_t);
  uint64_t sums[kLineWords] = {};
  for (const uint64_t* line = words; n_lines > 0; --n_lines, line += kLineWords) {
    __builtin_prefetch(line + kNearWords, 0, 3);
    __builtin_prefetch(line + kFarWords, 0, 2);
    for (size_t i = 0; i < kLineWords; ++i)
      sums[i] += line[i];
  }
  uint64_t sum = 0;
  for (const uint64_t part : sums)
    sum += part;
  return sum;
}

}  // namespace

template <typename Body>
double ReadBandwidth::for_parts(Body body) const {
  using Clock = std::chrono::steady_clock;
  const auto n = static_cast<size_t>(n_threads_);
  Clock::time_point begin;
  std::barrier start(static_cast<std::ptrdiff_t>(n), [&]() noexcept { begin = Clock::now(); });
  const auto work = [&](size_t thread) {
    uint64_t* const first = words_.get() + kLines / n * thread * kLineWords;
    const size_t n_lines = thread + 1 == n ? kLines - kLines / n * thread : kLines / n;
    start.arrive_and_wait();
    body(first, n_lines);
  };
  std::vector<std::jthread> threads;
  try {
    for (size_t i = 1; i < n; ++i)
      threads.emplace_back(work, i);
  } catch (...) {  // no more threads to be had: let those that wait go, and give up
    for (size_t i = threads.size(); i < n; ++i)
      start.arrive_and_drop();
    throw;
  }
  work(0);
  threads.clear();  // waits for all
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

ReadBandwidth::ReadBandwidth(int32_t n_threads)
    : n_threads_(std::max(n_threads, 1)),
      words_(static_cast<uint64_t*>(std::aligned_alloc(kHugePageBytes, kBytes))) {
  if (words_ == nullptr) throw std::bad_alloc();
  // In 2 MiB pages where the system gives them, as the library asks for its weights.
  (void)madvise(words_.get(), kBytes, MADV_HUGEPAGE);
  // Each thread touches its own part first, which places it near the thread.
  for_parts([](uint64_t* first, size_t n_lines) { std::fill_n(first, n_lines * kLineWords, 1); });
}

double ReadBandwidth::sample() const {
  double best_seconds = std::numeric_limits<double>::infinity();
  for (int run = 0; run < kRuns; ++run) {
    best_seconds = std::min(best_seconds, for_parts([](const uint64_t* first, size_t n_lines) {
                              g_sum += sum_lines(first, n_lines);
                            }));
  }
  return static_cast<double>(kBytes) / best_seconds;
}

}  // namespace flexq_tool
