#include "serving/scheduler.h"

#include <algorithm>

#include "base/clock.h"
#include "base/memory_guard.h"

namespace flexq {
namespace {

constexpr int64_t kPriorityNs = 1'000'000'000;  // what a level of priority is worth
constexpr int32_t kNoSequence = -1;

}  // namespace

struct Scheduler::Entry {
  std::shared_ptr<Request> request;
  Answer answer;
  std::vector<int32_t> tokens;  // of the prompt and the answer
  int64_t order_ns = 0;         // smaller first
  int64_t number = 0;           // then this one
  int64_t deadline_ns = 0;      // 0: none
  int32_t sequence = kNoSequence;
  int32_t n_planned = 0;  // tokens of the step, and the pages that they take
  int32_t planned_pages = 0;
  bool ended = false;

  bool before(const Entry& other) const {
    return order_ns != other.order_ns ? order_ns < other.order_ns : number < other.number;
  }
};

namespace {

template <typename Entries>
void insert_in_order(Entries& entries, typename Entries::value_type entry) {
  const auto at = std::upper_bound(entries.begin(), entries.end(), entry,
                                   [](const auto& a, const auto& b) { return a->before(*b); });
  entries.insert(at, std::move(entry));
}

int32_t pages_of(int64_t n_tokens) {
  return static_cast<int32_t>((n_tokens + kPageTokens - 1) / kPageTokens);
}

}  // namespace

Scheduler::Scheduler(Context& context, SchedulerOptions options, SchedulerObserver* observer)
    : context_(context), cache_(context.cache()), options_(options), observer_(observer) {
  for (int32_t i = cache_.n_sequences(); i > 0; --i)
    free_.push_back(i - 1);
  const size_t n_places = free_.size();
  running_.reserve(n_places);
  planned_.reserve(n_places);
  items_.reserve(n_places);
  samplings_.reserve(n_places);
  samples_.reserve(n_places);
}

Scheduler::~Scheduler() = default;

void Scheduler::add(Submission submission) {
  auto entry = std::make_unique<Entry>(
      Entry{std::move(submission.request), std::move(submission.answer), {}});
  const std::span<const int32_t> prompt = entry->answer.prompt();
  entry->tokens.assign(prompt.begin(), prompt.end());
  const GeneratorOptions& options = entry->answer.options();
  const int64_t submitted_ns = entry->request->stats().submitted_ns;
  entry->order_ns = submitted_ns - options.priority * kPriorityNs;
  entry->number = n_added_++;
  if (options.deadline_ms > 0) entry->deadline_ns = submitted_ns + options.deadline_ms * 1'000'000;
  // Room for all, so that none is lost on its way between the two lists.
  waiting_.reserve(waiting_.size() + running_.size() + 1);
  insert_in_order(waiting_, std::move(entry));
  update_metrics();
}

Status Scheduler::step(StopCheck stop) {
  const int64_t begin = now_ns();
  drop_ended(waiting_);
  drop_ended(running_);
  budget_ = options_.step_tokens > 0 ? options_.step_tokens : context_.plan().shape.chunk_tokens;
  plan_answers();
  plan_prompts();
  admit();
  update_metrics();
  Status status = compute(stop);
  drop_finished();
  metrics_.step_ns += now_ns() - begin;
  update_metrics();
  return status;
}

void Scheduler::fail_all(const Status& status) {
  for (Entries* entries : {&running_, &waiting_}) {
    for (std::unique_ptr<Entry>& entry : *entries)
      fail(*entry, guard_memory("end of a request", [&] { return status; }));
  }
  drop_finished();
  update_metrics();
}

void Scheduler::drop_ended(Entries& entries) {
  const int64_t now = now_ns();
  for (std::unique_ptr<Entry>& entry : entries) {
    if (entry->request->cancelled()) {
      fail(*entry, Status::error(StatusCode::kCancelled, "the request was cancelled"));
    } else if (entry->deadline_ns != 0 && now >= entry->deadline_ns) {
      fail(*entry,
           Status::error(StatusCode::kDeadlineExceeded, "the request did not finish within %lld ms",
                         static_cast<long long>(entry->answer.options().deadline_ms)));
    }
  }
  drop_finished();
}

void Scheduler::drop_finished() {
  for (Entries* entries : {&running_, &waiting_})
    std::erase_if(*entries, [](const std::unique_ptr<Entry>& entry) { return entry->ended; });
}

int32_t Scheduler::n_pending(const Entry& entry) const {
  return static_cast<int32_t>(entry.tokens.size()) - cache_.length(entry.sequence);
}

// What the step's plan has not taken yet.
int32_t Scheduler::pages_available() const {
  int32_t available = cache_.pages_available();
  for (const std::unique_ptr<Entry>& entry : running_)
    available -= entry->planned_pages;
  return available;
}

void Scheduler::preempt_last() {
  std::unique_ptr<Entry> entry = std::move(running_.back());
  running_.pop_back();
  budget_ += entry->n_planned;
  leave_place(*entry);
  entry->request->preempted();
  ++metrics_.n_preemptions;
  insert_in_order(waiting_, std::move(entry));
}

bool Scheduler::plan(size_t index, int32_t n_tokens) {
  Entry& entry = *running_[index];
  const auto needed = [&] { return cache_.pages_needed(entry.sequence, n_tokens); };
  while (needed() > pages_available()) {
    if (index + 1 < running_.size()) {
      preempt_last();
    } else if (n_tokens > 1) {
      n_tokens = std::max(n_tokens - kPageTokens, 1);
    } else if (index > 0) {
      preempt_last();
      return false;
    } else {
      fail(entry, Status::error(StatusCode::kContextFull,
                                "KV cache: the request needs a page more than the %d that there "
                                "are, of %d tokens",
                                cache_.pages_total(), kPageTokens));
      drop_finished();
      return false;
    }
  }
  entry.n_planned = n_tokens;
  entry.planned_pages = needed();
  budget_ -= n_tokens;
  return true;
}

void Scheduler::plan_answers() {
  for (size_t i = 0; i < running_.size(); ++i) {
    if (n_pending(*running_[i]) == 1 && !plan(i, 1)) return;
  }
}

void Scheduler::plan_prompts() {
  for (size_t i = 0; i < running_.size() && budget_ > 0; ++i) {
    const int32_t n_missing = n_pending(*running_[i]);
    if (n_missing > 1 && !plan(i, std::min(n_missing, budget_))) return;
  }
}

// Whether one that is computing its prompt will soon have more of this one's than there is now.
bool Scheduler::waits_for_prefix(const Entry& entry) const {
  if (!options_.reuses_prefixes) return false;
  const auto most = static_cast<int32_t>((entry.tokens.size() - 1) / kPageTokens);
  const int32_t found = cache_.find_prefix(entry.tokens);
  return std::any_of(running_.begin(), running_.end(), [&](const std::unique_ptr<Entry>& other) {
    if (n_pending(*other) <= 1) return false;
    const auto differs = std::ranges::mismatch(entry.tokens, other->tokens);
    const auto n_same = static_cast<int32_t>(differs.in1 - entry.tokens.begin());
    return std::min(n_same / kPageTokens, most) * kPageTokens > found;
  });
}

// Gives a sequence and the pages of what others computed to a waiting entry, if those that it still
// needs are there, beside those that prompts under way will need and one for each answer.
bool Scheduler::place(std::unique_ptr<Entry>& entry) {
  entry->sequence = free_.back();
  const int32_t n_reused =
      options_.reuses_prefixes ? context_.adopt_prefix(entry->sequence, entry->tokens) : 0;
  int32_t needed = cache_.pages_needed(entry->sequence, n_pending(*entry));
  for (const std::unique_ptr<Entry>& other : running_)
    needed += cache_.pages_needed(other->sequence, n_pending(*other)) - other->planned_pages + 1;
  if (needed > pages_available()) {
    static_cast<void>(context_.rewind(entry->sequence, 0));
    entry->sequence = kNoSequence;
    return false;
  }
  free_.pop_back();
  if (entry->request->stats().placed_ns == 0) {
    entry->request->placed(n_reused);
    metrics_.prompt_tokens += static_cast<int64_t>(entry->answer.prompt().size());
    metrics_.reused_tokens += n_reused;
  }
  return true;
}

void Scheduler::admit() {
  for (size_t i = 0; i < waiting_.size() && budget_ > 0 && !free_.empty();) {
    std::unique_ptr<Entry>& entry = waiting_[i];
    if (pages_of(static_cast<int64_t>(entry->tokens.size())) > cache_.pages_total()) {
      fail(*entry, Status::error(StatusCode::kContextFull,
                                 "KV cache: the request has %zu tokens, more than the %d pages of "
                                 "%d tokens hold",
                                 entry->tokens.size(), cache_.pages_total(), kPageTokens));
      ++i;
      continue;
    }
    if (waits_for_prefix(*entry)) {
      ++i;
      continue;
    }
    if (!place(entry)) return;
    Entry& placed = *entry;
    placed.n_planned = std::min(n_pending(placed), budget_);
    placed.planned_pages = cache_.pages_needed(placed.sequence, placed.n_planned);
    budget_ -= placed.n_planned;
    std::unique_ptr<Entry> moved = std::move(entry);
    waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
    insert_in_order(running_, std::move(moved));
  }
}

Status Scheduler::compute(StopCheck stop) {
  planned_.clear();
  for (const std::unique_ptr<Entry>& entry : running_) {
    if (entry->n_planned > 0 && !entry->ended) planned_.push_back(entry.get());
  }
  if (planned_.empty()) return Status();
  ++metrics_.n_steps;
  Status status = decode(planned_, stop);
  const auto concerns_all = [](const Status& failed) {
    return failed.code() == StatusCode::kDeviceLost || failed.code() == StatusCode::kCancelled;
  };
  if (!status.ok() && !concerns_all(status)) {
    // Somebody's numbers or somebody's memory: each alone tells whose, and the others lose nothing.
    status = Status();
    for (size_t i = 0; i < planned_.size() && status.ok(); ++i) {
      Entry& entry = *planned_[i];
      Status alone = decode({&planned_[i], 1}, stop);
      if (alone.ok()) continue;
      if (concerns_all(alone)) {
        status = std::move(alone);
      } else {
        fail(entry, std::move(alone));
      }
    }
  }
  if (!status.ok()) fail_all(status);
  return status;
}

// Computes what was planned for the entries, draws the tokens that follow, and hands them out.
Status Scheduler::decode(std::span<Entry* const> entries, StopCheck stop) {
  items_.clear();
  int64_t n_tokens = 0;
  for (const Entry* entry : entries) {
    const auto begin = static_cast<size_t>(cache_.length(entry->sequence));
    const auto count = static_cast<size_t>(entry->n_planned);
    const bool draws = begin + count == entry->tokens.size();
    items_.push_back({entry->sequence, std::span(entry->tokens).subspan(begin, count),
                      draws ? OutputRows::kLast : OutputRows::kNone});
    n_tokens += entry->n_planned;
  }
  FLEXQ_RETURN_IF_ERROR(
      guard_memory("step of the engine", [&] { return context_.decode(items_, stop); }));
  metrics_.computed_tokens += n_tokens;
  for (Entry* entry : entries) {
    entry->n_planned = 0;
    entry->planned_pages = 0;
    if (options_.reuses_prefixes) context_.publish(entry->sequence);
  }
  draw_tokens(entries);
  return Status();
}

void Scheduler::draw_tokens(std::span<Entry* const> entries) {
  samplings_.clear();
  int32_t row = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (items_[i].output == OutputRows::kNone) continue;
    const Entry& entry = *entries[i];
    if (entry.answer.sampled_by_device(context_)) {
      samplings_.push_back(
          {row, &entry.answer.options().sampling, static_cast<int32_t>(entry.tokens.size())});
    }
    ++row;
  }
  samples_.resize(samplings_.size());
  const Status sampled = context_.sample(samplings_, samples_);
  row = 0;
  size_t n_sampled = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (items_[i].output == OutputRows::kNone) continue;
    Entry& entry = *entries[i];
    const bool on_device = n_sampled < samplings_.size() && samplings_[n_sampled].row == row;
    Status status = guard_memory("token of a request", [&]() -> Status {
      SampledToken token;
      if (on_device) {
        FLEXQ_RETURN_IF_ERROR(sampled);
        token = samples_[n_sampled];
        if (token.token < 0) return non_finite_sampling();
      } else {
        FLEXQ_ASSIGN_OR_RETURN(token, entry.answer.draw(context_, row, entry.tokens, sampler_));
      }
      return take_token(entry, token);
    });
    if (!status.ok()) fail(entry, std::move(status));
    n_sampled += on_device ? 1 : 0;
    ++row;
  }
}

Status Scheduler::take_token(Entry& entry, const SampledToken& sampled) {
  TokenEvent event;
  FLEXQ_RETURN_IF_ERROR(
      entry.answer.take(sampled, static_cast<int32_t>(entry.tokens.size()), &event));
  if (event.finish_reason == FinishReason::kNone) {
    entry.tokens.push_back(sampled.token);
    ++metrics_.generated_tokens;
    entry.request->push(event);
    if (entry.answer.pending() == FinishReason::kNone) return Status();
    event = entry.answer.finish(entry.answer.pending());
  }
  finish(entry, event);
  return Status();
}

void Scheduler::leave_place(Entry& entry) {
  if (entry.sequence == kNoSequence) return;
  static_cast<void>(context_.rewind(entry.sequence, 0));
  free_.push_back(entry.sequence);
  entry.sequence = kNoSequence;
  entry.n_planned = 0;
  entry.planned_pages = 0;
}

void Scheduler::leave(Entry& entry, FinishReason reason) {
  --(entry.sequence != kNoSequence ? metrics_.n_running : metrics_.n_waiting);
  leave_place(entry);
  entry.ended = true;
  ++(reason == FinishReason::kCancelled  ? metrics_.n_cancelled
     : reason == FinishReason::kDeadline ? metrics_.n_deadline
     : reason == FinishReason::kError    ? metrics_.n_failed
                                         : metrics_.n_finished);
  count_pages();
  if (observer_ != nullptr) observer_->request_left(metrics_);
}

void Scheduler::finish(Entry& entry, const TokenEvent& event) {
  leave(entry, event.finish_reason);
  entry.request->push(event);
}

void Scheduler::fail(Entry& entry, Status status) {
  if (!entry.ended) leave(entry, finish_reason_of(status.code()));
  entry.request->fail(std::move(status));
}

void Scheduler::update_metrics() {
  metrics_.n_waiting = static_cast<int32_t>(waiting_.size());
  metrics_.n_running = static_cast<int32_t>(running_.size());
  count_pages();
}

void Scheduler::count_pages() {
  metrics_.pages_used = cache_.pages_used();
  metrics_.pages_cached = cache_.pages_cached();
}

}  // namespace flexq
