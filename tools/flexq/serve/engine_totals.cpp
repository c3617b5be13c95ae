#include "serve/engine_totals.h"

namespace flexq_tool {
namespace {

flexq_engine_metrics metrics_of(const flexq_engine* engine) {
  flexq_engine_metrics metrics = {};
  metrics.struct_size = sizeof metrics;
  if (flexq_engine_get_metrics(engine, &metrics) != FLEXQ_OK) metrics = {};
  return metrics;
}

void add_counts(flexq_engine_metrics& to, const flexq_engine_metrics& from) {
  to.n_submitted += from.n_submitted;
  to.n_finished += from.n_finished;
  to.n_cancelled += from.n_cancelled;
  to.n_deadline += from.n_deadline;
  to.n_failed += from.n_failed;
  to.n_refused += from.n_refused;
  to.n_preemptions += from.n_preemptions;
  to.prompt_tokens += from.prompt_tokens;
  to.reused_tokens += from.reused_tokens;
  to.computed_tokens += from.computed_tokens;
  to.generated_tokens += from.generated_tokens;
  to.n_steps += from.n_steps;
  to.step_ns += from.step_ns;
}

}  // namespace

void EngineTotals::add(const flexq_engine* engine) {
  const std::lock_guard lock(mutex_);
  engines_.insert(engine);
}

void EngineTotals::retire(const flexq_engine* engine) {
  const std::lock_guard lock(mutex_);
  if (engines_.erase(engine) > 0) add_counts(retired_, metrics_of(engine));
}

flexq_engine_metrics EngineTotals::sum() const {
  const std::lock_guard lock(mutex_);
  flexq_engine_metrics sum = retired_;
  for (const flexq_engine* engine : engines_) {
    const flexq_engine_metrics metrics = metrics_of(engine);
    add_counts(sum, metrics);
    sum.n_waiting += metrics.n_waiting;
    sum.n_running += metrics.n_running;
    sum.pages_total += metrics.pages_total;
    sum.pages_used += metrics.pages_used;
    sum.pages_cached += metrics.pages_cached;
  }
  return sum;
}

}  // namespace flexq_tool
