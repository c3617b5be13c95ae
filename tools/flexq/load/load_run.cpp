#include "load/load_run.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "interrupt.h"

namespace flexq_tool {
namespace {

using Clock = LoadSample::Clock;

constexpr auto kInterruptPoll = std::chrono::milliseconds(50);

// False when a signal came before.
bool sleep_until(Clock::time_point time) {
  while (interrupt_signal() == 0) {
    const Clock::time_point now = Clock::now();
    if (now >= time) return true;
    std::this_thread::sleep_for(std::min<Clock::duration>(time - now, kInterruptPoll));
  }
  return false;
}

LoadResult collect(std::vector<LoadSample> samples, size_t n_sent) {
  samples.resize(n_sent);
  LoadResult result;
  if (!samples.empty()) {
    Clock::time_point first = samples.front().begin;
    Clock::time_point last = samples.front().end;
    for (const LoadSample& sample : samples) {
      first = std::min(first, sample.begin);
      last = std::max(last, sample.end);
    }
    result.seconds = std::chrono::duration<double>(last - first).count();
  }
  result.samples = std::move(samples);
  return result;
}

}  // namespace

LoadResult run_open_loop(LoadTarget& target, const std::vector<LoadRequest>& requests) {
  std::vector<LoadSample> samples(requests.size());
  std::vector<std::thread> threads;
  const Clock::time_point begin = Clock::now();
  for (size_t i = 0; i < requests.size(); ++i) {
    const std::chrono::duration<double> arrival(requests[i].arrival_seconds);
    if (!sleep_until(begin + std::chrono::duration_cast<Clock::duration>(arrival))) break;
    threads.emplace_back(
        [&target, &requests, &samples, i] { samples[i] = target.make_client()->run(requests[i]); });
  }
  for (std::thread& thread : threads)
    thread.join();
  return collect(std::move(samples), threads.size());
}

LoadResult run_closed_loop(LoadTarget& target, const std::vector<LoadRequest>& requests,
                           int32_t concurrency) {
  std::vector<LoadSample> samples(requests.size());
  std::atomic<size_t> next = 0;
  std::vector<std::thread> threads;
  for (int32_t client = 0; client < concurrency; ++client) {
    threads.emplace_back([&] {
      const std::unique_ptr<LoadClient> sender = target.make_client();
      for (size_t i = next++; i < requests.size() && interrupt_signal() == 0; i = next++)
        samples[i] = sender->run(requests[i]);
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  return collect(std::move(samples), std::min<size_t>(next, requests.size()));
}

}  // namespace flexq_tool
