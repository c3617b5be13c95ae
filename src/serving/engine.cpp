#include "serving/engine.h"

#include <cfenv>
#include <utility>

#include "base/blocked_signals.h"
#include "base/clock.h"
#include "base/memory_guard.h"

namespace flexq {
namespace {

Status engine_released() {
  return guard_memory("end of the engine", [] {
    return Status::error(StatusCode::kCancelled, "the engine was released");
  });
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(std::shared_ptr<Context> context,
                                               const EngineOptions& options) {
  const int32_t chunk_tokens = context->plan().shape.chunk_tokens;
  if (options.step_tokens > chunk_tokens) {
    return Status::error(StatusCode::kUnsupportedValue,
                         "step tokens: expected at most %d (the context's chunk), found %d",
                         chunk_tokens, options.step_tokens);
  }
  std::unique_ptr<Engine> engine(new Engine(std::move(context), options));
  FLEXQ_RETURN_IF_ERROR(engine->use_->status());
  const KvCache& cache = engine->context_->cache();
  for (int32_t i = 0; i < cache.n_sequences(); ++i) {
    if (cache.length(i) == 0) continue;
    return Status::error(StatusCode::kInvalidState,
                         "engine: expected a context with empty sequences, found %d tokens in "
                         "sequence %d",
                         cache.length(i), i);
  }
  return engine;
}

Engine::Engine(std::shared_ptr<Context> context, const EngineOptions& options)
    : context_(std::move(context)),
      use_(std::in_place, *context_),
      options_(options),
      scheduler_(*context_, {options.step_tokens, options.reuses_prefixes}, this) {}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_.store(true, std::memory_order_relaxed);
    work_came_.notify_one();
  }
  if (has_thread_) pthread_join(thread_, nullptr);
}

Status Engine::check(std::span<const int32_t> prompt, const GeneratorOptions& options) const {
  if (options.sequence != 0) {
    return Status::error(StatusCode::kInvalidArgument,
                         "request: expected sequence 0 (the engine chooses one), found %d",
                         options.sequence);
  }
  const KvCache& cache = context_->cache();
  const int64_t capacity = int64_t{cache.pages_total()} * kPageTokens;
  if (static_cast<int64_t>(prompt.size()) > capacity) {
    return Status::error(StatusCode::kContextFull,
                         "prompt: expected at most %lld tokens (the KV cache), found %zu",
                         static_cast<long long>(capacity), prompt.size());
  }
  return Status();
}

Result<std::shared_ptr<Request>> Engine::submit(std::span<const int32_t> prompt,
                                                const GeneratorOptions& options) {
  const int64_t submitted_ns = now_ns();
  FLEXQ_RETURN_IF_ERROR(check(prompt, options));
  FLEXQ_ASSIGN_OR_RETURN(Answer answer,
                         Answer::create(context_->shared_model(), context_->plan().shape, options));
  FLEXQ_RETURN_IF_ERROR(answer.start({}, prompt));
  auto request = std::make_shared<Request>(prompt, submitted_ns);

  const std::lock_guard lock(mutex_);
  FLEXQ_RETURN_IF_ERROR(lost_);
  const int32_t n_places = context_->cache().n_sequences();
  const int32_t n_unfinished = n_unfinished_.load(std::memory_order_relaxed);
  if (n_unfinished - n_places >= options_.n_queue) {
    ++metrics_.n_refused;
    return Status::error(StatusCode::kQueueFull,
                         "engine: expected at most %d waiting requests, found as many",
                         options_.n_queue);
  }
  FLEXQ_RETURN_IF_ERROR(start_thread());
  submissions_.push_back({request, std::move(answer)});
  n_unfinished_.fetch_add(1, std::memory_order_relaxed);
  ++metrics_.n_submitted;
  work_came_.notify_one();
  return request;
}

Status Engine::start_thread() {
  if (has_thread_) return Status();
  const BlockedSignals blocked;
  const auto run = [](void* engine) -> void* {
    static_cast<Engine*>(engine)->work();
    return nullptr;
  };
  if (pthread_create(&thread_, nullptr, run, this) != 0)
    return Status::out_of_memory("thread of the engine", 0);
  has_thread_ = true;
  return Status();
}

EngineMetrics Engine::metrics() const {
  const std::lock_guard lock(mutex_);
  EngineMetrics metrics = metrics_;
  metrics.pages_total = context_->cache().pages_total();
  metrics.scheduler.n_waiting += static_cast<int32_t>(submissions_.size());
  return metrics;
}

void Engine::work() {
  fesetenv(FE_DFL_ENV);  // threads inherit that of the host
  while (!stopping_.load(std::memory_order_relaxed))
    run_step(wait_for_work());
  scheduler_.fail_all(engine_released());
  const std::lock_guard lock(mutex_);
  for (Scheduler::Submission& submission : submissions_)
    submission.request->fail(engine_released());
}

std::vector<Scheduler::Submission> Engine::wait_for_work() {
  std::unique_lock lock(mutex_);
  work_came_.wait(lock, [this] {
    return !submissions_.empty() || !scheduler_.idle() || stopping_.load(std::memory_order_relaxed);
  });
  // Until the step's own count: in no reading is a request nowhere.
  metrics_.scheduler.n_waiting += static_cast<int32_t>(submissions_.size());
  return std::exchange(submissions_, {});
}

void Engine::request_left(const SchedulerMetrics& metrics) {
  n_unfinished_.fetch_sub(1, std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  metrics_.scheduler = metrics;
}

void Engine::run_step(std::vector<Scheduler::Submission> submissions) {
  for (Scheduler::Submission& submission : submissions) {
    const std::shared_ptr<Request> request = submission.request;
    Status added = guard_memory("request", [&]() -> Status {
      scheduler_.add(std::move(submission));
      return Status();
    });
    if (added.ok()) continue;
    n_unfinished_.fetch_sub(1, std::memory_order_relaxed);
    request->fail(std::move(added));
  }
  Status status = guard_memory("step of the engine", [this] {
    return scheduler_.step([this]() -> Status {
      return stopping_.load(std::memory_order_relaxed) ? engine_released() : Status();
    });
  });
  // Planning that finds no memory has lost nothing, but nor would it get further: give it up.
  if (!status.ok()) scheduler_.fail_all(status);
  const std::lock_guard lock(mutex_);
  metrics_.scheduler = scheduler_.metrics();
  if (status.code() == StatusCode::kDeviceLost) lost_ = std::move(status);
}

}  // namespace flexq
