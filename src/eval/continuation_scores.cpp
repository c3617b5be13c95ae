#include "eval/continuation_scores.h"

#include <algorithm>

namespace flexq {
namespace {

// Nothing needs the keys and values of the last token.
int32_t input_tokens(const Continuation& text) {
  return static_cast<int32_t>(text.tokens.size()) - 1;
}

// Tokens that only later tokens look at. The last token of the context is none of them: its logits
// say how probable the continuation's first token is.
int32_t unscored_tokens(const Continuation& text) {
  return input_tokens(text) - text.n_scored;
}

int32_t pages_of(int32_t n_tokens) {
  return (n_tokens + kPageTokens - 1) / kPageTokens;
}

int32_t common_tokens(const Continuation& a, const Continuation& b, int32_t limit) {
  int32_t n = 0;
  while (n < limit && a.tokens[static_cast<size_t>(n)] == b.tokens[static_cast<size_t>(n)])
    ++n;
  return n;
}

Status check_list(const Context& context, std::span<const Continuation> list) {
  const int32_t context_tokens = context.plan().shape.context_tokens;
  for (size_t i = 0; i < list.size(); ++i) {
    const Continuation& text = list[i];
    if (text.n_scored < 1 || unscored_tokens(text) < 0) {
      return Status::error(
          StatusCode::kInvalidArgument,
          "continuation %zu: expected at least one token and one in front of it, found %d of %zu",
          i, text.n_scored, text.tokens.size());
    }
    if (input_tokens(text) > context_tokens) {
      return Status::error(StatusCode::kContextFull,
                           "continuation %zu: expected at most %d tokens before its last one (the "
                           "context length), found %d",
                           i, context_tokens, input_tokens(text));
    }
  }
  for (int32_t sequence = 0; sequence < context.cache().n_sequences(); ++sequence) {
    if (context.cache().length(sequence) == 0) continue;
    return Status::error(StatusCode::kInvalidState,
                         "sequence %d: expected empty sequences to score with, found %d tokens",
                         sequence, context.cache().length(sequence));
  }
  return Status();
}

int64_t tokens_to_compute(std::span<const Continuation> list,
                          std::span<const ContinuationGroup> groups) {
  int64_t total = 0;
  for (const ContinuationGroup& group : groups) {
    total += group.n_shared;
    for (const Continuation& text : list.subspan(group.first, group.count))
      total += input_tokens(text) - group.n_shared;
  }
  return total;
}

// The sequences of a context, all empty; emptied again at the end of the scope.
class EmptySequences {
 public:
  explicit EmptySequences(Context& context) : context_(context) {}
  ~EmptySequences() { clear(); }
  EmptySequences(const EmptySequences&) = delete;
  EmptySequences& operator=(const EmptySequences&) = delete;
  void clear() {
    for (int32_t i = 0; i < context_.cache().n_sequences(); ++i)
      (void)context_.rewind(i, 0);
  }

 private:
  Context& context_;
};

// Computes some groups at once: their common beginnings, then all members behind them.
class ScoringPass {
 public:
  ScoringPass(Context& context, std::span<const Continuation> list)
      : context_(context), list_(list) {}

  // scores: those of the members, one group after the other.
  Status run(std::span<const ContinuationGroup> groups, double* scores,
             FunctionRef<bool(int64_t)> progress) {
    EmptySequences sequences(context_);
    FLEXQ_RETURN_IF_ERROR(compute_shared(groups, progress));
    const int64_t n_shared = n_tokens_;
    items_.clear();
    targets_.clear();
    size_t n_log_probs = 0;
    int32_t sequence = 0;
    for (const ContinuationGroup& group : groups) {
      for (const Continuation& text : members(group)) {
        const auto begin = static_cast<size_t>(group.n_shared);
        const auto end = static_cast<size_t>(input_tokens(text));
        add(sequence++, std::span(text.tokens).subspan(begin, end - begin),
            {unscored_tokens(text) - group.n_shared,
             std::span(text.tokens).last(static_cast<size_t>(text.n_scored))});
        n_log_probs += static_cast<size_t>(text.n_scored);
      }
    }
    log_probs_.resize(n_log_probs);
    FLEXQ_RETURN_IF_ERROR(
        context_.score(items_, targets_, log_probs_.data(),
                       [&](int64_t n_computed) { return progress(n_shared + n_computed); }));
    const float* log_prob = log_probs_.data();
    for (const ScoreTargets& target : targets_) {
      double score = 0;
      for (size_t i = 0; i < target.tokens.size(); ++i)
        score += static_cast<double>(*log_prob++);
      *scores++ = score;
    }
    return Status();
  }

 private:
  std::span<const Continuation> members(const ContinuationGroup& group) const {
    return list_.subspan(group.first, group.count);
  }

  void add(int32_t sequence, std::span<const int32_t> tokens, ScoreTargets targets) {
    items_.push_back({sequence, tokens, OutputRows::kNone});
    targets_.push_back(targets);
  }

  // Members of a group take consecutive sequences; the first computes what all share.
  Status compute_shared(std::span<const ContinuationGroup> groups,
                        FunctionRef<bool(int64_t)> progress) {
    items_.clear();
    targets_.clear();
    n_tokens_ = 0;
    int32_t sequence = 0;
    for (const ContinuationGroup& group : groups) {
      if (group.n_shared > 0) {
        const std::span<const int32_t> tokens = list_[group.first].tokens;
        add(sequence, tokens.first(static_cast<size_t>(group.n_shared)), {});
        n_tokens_ += group.n_shared;
      }
      sequence += static_cast<int32_t>(group.count);
    }
    if (items_.empty()) return Status();
    FLEXQ_RETURN_IF_ERROR(context_.score(items_, targets_, nullptr, progress));
    sequence = 0;
    for (const ContinuationGroup& group : groups) {
      for (int32_t i = 1; group.n_shared > 0 && i < static_cast<int32_t>(group.count); ++i)
        FLEXQ_RETURN_IF_ERROR(context_.fork(sequence, sequence + i));
      sequence += static_cast<int32_t>(group.count);
    }
    return Status();
  }

  Context& context_;
  const std::span<const Continuation> list_;
  std::vector<BatchItem> items_;
  std::vector<ScoreTargets> targets_;
  std::vector<float> log_probs_;
  int64_t n_tokens_ = 0;  // in the common beginnings
};

}  // namespace

std::vector<ContinuationGroup> group_continuations(std::span<const Continuation> list,
                                                   int32_t n_sequences, int32_t n_pages) {
  std::vector<ContinuationGroup> groups;
  int64_t member_pages = 0;  // of the last group, were nothing shared
  for (size_t i = 0; i < list.size(); ++i) {
    const int32_t own_pages = pages_of(input_tokens(list[i]));
    if (!groups.empty() && groups.back().count < static_cast<size_t>(n_sequences)) {
      ContinuationGroup& group = groups.back();
      const int32_t context = unscored_tokens(list[group.first]);
      const int32_t limit =
          std::min(group.count > 1 ? group.n_shared : context, unscored_tokens(list[i]));
      const int32_t n_shared = common_tokens(list[group.first], list[i], limit);
      // Full pages stay shared; of the last one every member gets a copy.
      const int64_t pages =
          member_pages + own_pages - static_cast<int64_t>(group.count) * (n_shared / kPageTokens);
      if (n_shared > 0 && 2 * n_shared >= context && pages <= n_pages) {
        ++group.count;
        group.n_shared = n_shared;
        group.n_pages = static_cast<int32_t>(pages);
        member_pages += own_pages;
        continue;
      }
    }
    groups.push_back({i, 1, 0, own_pages});
    member_pages = own_pages;
  }
  return groups;
}

Status score_continuations(Context& context, std::span<const Continuation> list, double* scores,
                           FunctionRef<bool(int64_t, int64_t)> progress,
                           FunctionRef<bool(size_t)> after_pass) {
  FLEXQ_RETURN_IF_ERROR(check_list(context, list));
  const int32_t n_sequences = context.cache().n_sequences();
  const int32_t n_pages = context.cache().pages_total();
  const std::vector<ContinuationGroup> groups = group_continuations(list, n_sequences, n_pages);
  const int64_t total = tokens_to_compute(list, groups);
  ScoringPass pass(context, list);
  int64_t done = 0;
  for (size_t begin = 0; begin < groups.size();) {
    size_t end = begin;
    size_t members = 0;
    int64_t pages = 0;
    do {
      members += groups[end].count;
      pages += groups[end].n_pages;
      ++end;
    } while (end < groups.size() &&
             members + groups[end].count <= static_cast<size_t>(n_sequences) &&
             pages + groups[end].n_pages <= n_pages);
    const auto part = std::span(groups).subspan(begin, end - begin);
    const size_t first = groups[begin].first;
    FLEXQ_RETURN_IF_ERROR(pass.run(part, scores + first, [&](int64_t n_computed) {
      return progress(done + n_computed, total);
    }));
    done += tokens_to_compute(list, part);
    if (after_pass(first + members)) {
      return Status::error(StatusCode::kCancelled, "scoring was cancelled after %zu of %zu texts",
                           first + members, list.size());
    }
    begin = end;
  }
  return Status();
}

}  // namespace flexq
