// CpuDevice's ReadRunner: all threads read and nothing else.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "base/checked.h"
#include "base/memory.h"
#include "device/cpu/cpu_device.h"

namespace flexq {
namespace {

constexpr int32_t kBandwidthRuns = 3;

// Asked for ahead as the kernels do; the sum keeps the loop alive.
uint64_t sum_lines(const uint8_t* data, int64_t bytes) {
  constexpr int64_t kNearWords = 1024 / 8;
  constexpr int64_t kFarWords = 6144 / 8;
  const auto* words = reinterpret_cast<const uint64_t*>(data);
  const int64_t n = bytes / 8;
  uint64_t sums[8] = {};
  for (int64_t i = 0; i + 8 <= n; i += 8) {
    __builtin_prefetch(words + i + kNearWords, 0, 3);
    __builtin_prefetch(words + i + kFarWords, 0, 2);
    for (int64_t j = 0; j < 8; ++j)
      sums[j] += words[i + j];
  }
  uint64_t sum = 0;
  for (const uint64_t part : sums)
    sum += part;
  return sum;
}

class CpuReadRunner : public ReadRunner {
 public:
  explicit CpuReadRunner(ThreadPool& pool) : pool_(pool) {}

  Result<double> bandwidth(int64_t bytes) override {
    FLEXQ_ASSIGN_OR_RETURN(HostBuffer memory, HostBuffer::allocate(bytes, "memory to read"));
    // Pages that nobody wrote are all the same page.
    for_tasks(memory.size(), [&](int64_t begin, int64_t end) {
      std::fill(memory.data() + begin, memory.data() + end, uint8_t{1});
    });
    double best_us = 0;
    for (int32_t run = 0; run < kBandwidthRuns; ++run) {
      const double us = read(memory.span());
      if (run == 0 || us < best_us) best_us = us;
    }
    return static_cast<double>(bytes) / best_us * 1e6;
  }

  Result<double> time(std::span<const std::span<const uint8_t>> blocks, int32_t repeats) override {
    std::vector<double> times;
    for (int32_t repeat = 0; repeat < repeats; ++repeat)
      times.push_back(read(blocks[next_++ % blocks.size()]));
    const auto middle = times.begin() + static_cast<ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
  }

 private:
  // As many tasks as a layer has.
  void for_tasks(int64_t bytes, FunctionRef<void(int64_t begin, int64_t end)> body) {
    const int64_t task_bytes = align_up(ceil_div(bytes, pool_.n_threads() * 4), 64);
    pool_.parallel_for(ceil_div(bytes, task_bytes), [&](int64_t task, int) {
      body(task * task_bytes, std::min((task + 1) * task_bytes, bytes));
    });
  }

  // Microseconds.
  double read(std::span<const uint8_t> block) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begin = Clock::now();
    for_tasks(static_cast<int64_t>(block.size()),
              [&](int64_t from, int64_t to) { sum_ += sum_lines(block.data() + from, to - from); });
    const std::chrono::duration<double, std::micro> taken = Clock::now() - begin;
    return taken.count();
  }

  ThreadPool& pool_;
  std::atomic<uint64_t> sum_{0};
  size_t next_ = 0;  // of the blocks
};

}  // namespace

Result<std::unique_ptr<ReadRunner>> CpuDevice::create_read_runner(ThreadPool& pool) {
  return std::unique_ptr<ReadRunner>(std::make_unique<CpuReadRunner>(pool));
}

}  // namespace flexq
