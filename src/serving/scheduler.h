// Which requests compute how many tokens in the next step, and the step itself: continuous batching
// over one context. One thread; knows nothing of threads and locks. Planning moves requests between
// lists that have room for all, so that no request is lost where it finds no memory for the rest.
//
// A request has all tokens of prompt and answer, of which its sequence holds the first ones; what
// is missing is computed in pieces, and the last of them gives the logits for the next token. So
// the prompt, a token under way, and the way back after a preemption are the same thing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "runtime/answer.h"
#include "runtime/context.h"
#include "serving/request.h"

namespace flexq {

struct SchedulerOptions {
  int32_t step_tokens = 0;  // most tokens of a step, but one for each answer under way; 0: a chunk
  bool reuses_prefixes = true;
};

// What has happened so far.
struct SchedulerMetrics {
  int32_t n_waiting = 0;
  int32_t n_running = 0;
  int32_t pages_used = 0;
  int32_t pages_cached = 0;
  int64_t n_finished = 0;
  int64_t n_cancelled = 0;
  int64_t n_deadline = 0;
  int64_t n_failed = 0;
  int64_t n_preemptions = 0;
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;
  int64_t computed_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t n_steps = 0;
  int64_t step_ns = 0;
};

// Told on the scheduler's thread, before anybody can see a request's end, what there is without it.
class SchedulerObserver {
 public:
  virtual void request_left(const SchedulerMetrics& metrics) = 0;

 protected:
  ~SchedulerObserver() = default;
};

class Scheduler {
 public:
  // A request with its answer, started.
  struct Submission {
    std::shared_ptr<Request> request;
    Answer answer;
  };

  // The context's sequences are empty.
  Scheduler(Context& context, SchedulerOptions options, SchedulerObserver* observer = nullptr);
  ~Scheduler();

  void add(Submission submission);
  bool idle() const { return waiting_.empty() && running_.empty(); }

  // Plans and computes one step, hands out what came of it, and drops the requests that ended.
  // `stop` is asked before every layer. Fails when the device is lost or `stop` says so; what
  // concerns single requests is told to them.
  Status step(StopCheck stop);
  // Ends all requests; needs no memory.
  void fail_all(const Status& status);

  const SchedulerMetrics& metrics() const { return metrics_; }

 private:
  struct Entry;
  using Entries = std::vector<std::unique_ptr<Entry>>;

  int32_t pages_available() const;
  int32_t n_pending(const Entry& entry) const;

  void drop_ended(Entries& entries);
  // The steps of planning: answers under way, prompts under way, and requests without a place.
  void plan_answers();
  void plan_prompts();
  void admit();
  // Plans n_tokens of a running entry, taking pages from those behind it in the order; fewer, or
  // none, where there are not enough. False: the entry has no place any more.
  bool plan(size_t index, int32_t n_tokens);
  bool waits_for_prefix(const Entry& entry) const;
  bool place(std::unique_ptr<Entry>& entry);
  void preempt_last();

  Status compute(StopCheck stop);
  Status decode(std::span<Entry* const> entries, StopCheck stop);
  void draw_tokens(std::span<Entry* const> entries);
  Status take_token(Entry& entry, const SampledToken& sampled);

  // An entry that ends gives its place back before anybody can see its end.
  void finish(Entry& entry, const TokenEvent& event);
  void fail(Entry& entry, Status status);
  void leave(Entry& entry, FinishReason reason);
  void leave_place(Entry& entry);
  void drop_finished();
  void update_metrics();
  void count_pages();

  Context& context_;
  const KvCache& cache_;
  const SchedulerOptions options_;
  SchedulerObserver* const observer_;
  int32_t budget_ = 0;         // tokens that the step under planning may still take
  Entries waiting_;            // in order
  Entries running_;            // in order
  std::vector<int32_t> free_;  // sequences
  std::vector<Entry*> planned_;
  std::vector<BatchItem> items_;
  std::vector<RowSampling> samplings_;
  std::vector<SampledToken> samples_;
  Sampler sampler_;
  SchedulerMetrics metrics_;
  int64_t n_added_ = 0;
};

}  // namespace flexq
