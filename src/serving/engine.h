// Requests from any thread, answered over one context by a thread of its own.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/status.h"
#include "runtime/answer.h"
#include "runtime/context.h"
#include "serving/request.h"
#include "serving/scheduler.h"

namespace flexq {

inline constexpr int32_t kDefaultQueue = 1024;
inline constexpr int32_t kMaxQueue = 1 << 20;

struct EngineOptions {
  int32_t step_tokens = 0;  // 0: the context's chunk
  int32_t n_queue = kDefaultQueue;
  bool reuses_prefixes = true;
};

struct EngineMetrics {
  SchedulerMetrics scheduler;
  int32_t pages_total = 0;
  int64_t n_submitted = 0;
  int64_t n_refused = 0;
};

class Engine final : private SchedulerObserver {
 public:
  // Has the context to itself until the end. kInvalidState, kUnsupportedValue.
  static Result<std::unique_ptr<Engine>> create(std::shared_ptr<Context> context,
                                                const EngineOptions& options);
  // Cancels what is under way and waits for the thread.
  ~Engine();

  const LoadedModel& model() const { return context_->model(); }

  // Any thread. kQueueFull, kContextFull, kInvalidArgument, kDeviceLost, kOutOfMemory.
  Result<std::shared_ptr<Request>> submit(std::span<const int32_t> prompt,
                                          const GeneratorOptions& options);
  EngineMetrics metrics() const;

 private:
  Engine(std::shared_ptr<Context> context, const EngineOptions& options);
  Status check(std::span<const int32_t> prompt, const GeneratorOptions& options) const;
  Status start_thread();  // with the lock
  void work();
  // Sleeps while there is nothing to do; then the submissions that came since, maybe none.
  std::vector<Scheduler::Submission> wait_for_work();
  void run_step(std::vector<Scheduler::Submission> submissions);
  void request_left(const SchedulerMetrics& metrics) override;

  const std::shared_ptr<Context> context_;
  const std::optional<ContextUse> use_;
  const EngineOptions options_;
  std::atomic<int32_t> n_unfinished_{0};
  std::atomic<bool> stopping_{false};
  Scheduler scheduler_;  // of the thread

  mutable std::mutex mutex_;  // of all below
  std::condition_variable work_came_;
  std::vector<Scheduler::Submission> submissions_;
  EngineMetrics metrics_;
  Status lost_;  // why no request can be answered any more
  pthread_t thread_{};
  bool has_thread_ = false;
};

}  // namespace flexq
