#include "runtime/kv_cache.h"

#include <algorithm>

namespace flexq {

KvCache::KvCache(int32_t n_sequences, int32_t context_tokens, int32_t page_tokens, int32_t n_pages)
    : context_tokens_(context_tokens), page_tokens_(page_tokens) {
  pages_per_sequence_ = pages_for(context_tokens);
  sequences_.resize(static_cast<size_t>(n_sequences));
  for (Sequence& sequence : sequences_)
    sequence.tokens.reserve(static_cast<size_t>(context_tokens));
  block_tables_.assign(sequences_.size() * static_cast<size_t>(pages_per_sequence_), 0);
  reference_counts_.assign(static_cast<size_t>(n_pages), 0);
  free_pages_.reserve(static_cast<size_t>(n_pages));
  for (int32_t i = n_pages; i > 0; --i)
    free_pages_.push_back(i - 1);
  published_ = PrefixIndex(n_pages, page_tokens);
  cached_pages_.resize(reference_counts_.size());
}

int32_t KvCache::take_page() {
  if (free_pages_.empty()) {
    const int32_t oldest = oldest_cached_;
    uncache_page(oldest);
    published_.erase(oldest);
    free_pages_.push_back(oldest);
  }
  const int32_t taken = free_pages_.back();
  free_pages_.pop_back();
  reference_counts_[static_cast<size_t>(taken)] = 1;
  return taken;
}

void KvCache::hold_page(int32_t held) {
  if (reference_counts_[static_cast<size_t>(held)]++ == 0) uncache_page(held);
}

void KvCache::drop_page(int32_t dropped) {
  if (--reference_counts_[static_cast<size_t>(dropped)] != 0) return;
  if (published_.contains(dropped))
    cache_page(dropped);
  else
    free_pages_.push_back(dropped);
}

void KvCache::cache_page(int32_t page) {
  cached(page) = {newest_cached_, PrefixIndex::kNone};
  (newest_cached_ != PrefixIndex::kNone ? cached(newest_cached_).after : oldest_cached_) = page;
  newest_cached_ = page;
  ++n_cached_;
}

void KvCache::uncache_page(int32_t page) {
  const CachedPage place = cached(page);
  (place.before != PrefixIndex::kNone ? cached(place.before).after : oldest_cached_) = place.after;
  (place.after != PrefixIndex::kNone ? cached(place.after).before : newest_cached_) = place.before;
  --n_cached_;
}

// Only the last page can be written to while shared or published: full pages never change again.
bool KvCache::splits_page(int32_t sequence) const {
  const int32_t n_tokens = length(sequence);
  if (n_tokens % page_tokens_ == 0) return false;
  const int32_t last = page(sequence, pages_for(n_tokens) - 1);
  return reference_counts_[static_cast<size_t>(last)] > 1 || published_.contains(last);
}

int32_t KvCache::pages_needed(int32_t sequence, int32_t n_tokens) const {
  const int64_t old_length = length(sequence);
  const int32_t split = n_tokens > 0 && splits_page(sequence) ? 1 : 0;
  return pages_for(old_length + n_tokens) - pages_for(old_length) + split;
}

Status KvCache::append(int32_t sequence, std::span<const int32_t> tokens,
                       FunctionRef<Status(int32_t, int32_t)> copy_page) {
  Sequence& seq = at(sequence);
  const auto old_length = static_cast<int64_t>(seq.tokens.size());
  const int64_t new_length = old_length + static_cast<int64_t>(tokens.size());
  if (new_length > context_tokens_) {
    return Status::error(StatusCode::kContextFull,
                         "sequence %d: expected at most %d tokens (the context length), found %lld "
                         "(%lld in the cache and %lld new)",
                         sequence, context_tokens_, static_cast<long long>(new_length),
                         static_cast<long long>(old_length), static_cast<long long>(tokens.size()));
  }
  const int32_t old_pages = pages_for(old_length);
  const int32_t new_pages = pages_for(new_length);
  const int32_t needed = pages_needed(sequence, static_cast<int32_t>(tokens.size()));
  if (needed > pages_available()) {
    return Status::error(StatusCode::kContextFull,
                         "KV cache: sequence %d needs %d more pages of %d tokens, found %d free "
                         "of %d",
                         sequence, needed, page_tokens_, pages_available(), pages_total());
  }
  if (!tokens.empty() && splits_page(sequence)) {
    int32_t& last = page(sequence, old_pages - 1);
    const int32_t copy = take_page();
    Status status = copy_page(last, copy);
    if (!status.ok()) {
      drop_page(copy);
      return status;
    }
    drop_page(last);
    last = copy;
    ++pages_copied_;
  }
  for (int32_t i = old_pages; i < new_pages; ++i)
    page(sequence, i) = take_page();
  seq.tokens.insert(seq.tokens.end(), tokens.begin(), tokens.end());
  return Status();
}

void KvCache::rewind(int32_t sequence, int32_t n_tokens) {
  Sequence& seq = at(sequence);
  const int32_t kept = pages_for(n_tokens);
  for (int32_t i = pages_for(static_cast<int64_t>(seq.tokens.size())); i > kept; --i) {
    drop_page(page(sequence, i - 1));
  }
  seq.tokens.resize(static_cast<size_t>(n_tokens));
  seq.n_published = std::min(seq.n_published, n_tokens / page_tokens_);
}

void KvCache::fork(int32_t from, int32_t to) {
  if (from == to) return;
  rewind(to, 0);
  const int32_t n_pages = pages_for(length(from));
  for (int32_t i = 0; i < n_pages; ++i) {
    page(to, i) = page(from, i);
    ++reference_counts_[static_cast<size_t>(page(from, i))];
  }
  at(to).tokens.assign(at(from).tokens.begin(), at(from).tokens.end());
  at(to).n_published = at(from).n_published;
}

int32_t KvCache::find_prefix(std::span<const int32_t> tokens) const {
  int32_t parent = PrefixIndex::kNone;
  int32_t n_pages = 0;
  while ((int64_t{n_pages} + 1) * page_tokens_ < static_cast<int64_t>(tokens.size())) {
    parent = published_.find(parent, tokens_of_page(tokens, n_pages));
    if (parent == PrefixIndex::kNone) break;
    ++n_pages;
  }
  return n_pages * page_tokens_;
}

int32_t KvCache::adopt_prefix(int32_t sequence, std::span<const int32_t> tokens) {
  Sequence& seq = at(sequence);
  const int32_t n_adopted = find_prefix(tokens);
  int32_t parent = PrefixIndex::kNone;
  for (int32_t i = 0; i < n_adopted / page_tokens_; ++i) {
    parent = published_.find(parent, tokens_of_page(tokens, i));
    hold_page(parent);
    page(sequence, i) = parent;
  }
  const auto adopted = tokens.first(static_cast<size_t>(n_adopted));
  seq.tokens.assign(adopted.begin(), adopted.end());
  seq.n_published = n_adopted / page_tokens_;
  return n_adopted;
}

void KvCache::publish(int32_t sequence) {
  Sequence& seq = at(sequence);
  const int32_t n_full = length(sequence) / page_tokens_;
  for (int32_t i = seq.n_published; i < n_full; ++i) {
    const int32_t parent = i > 0 ? page(sequence, i - 1) : PrefixIndex::kNone;
    const std::span<const int32_t> tokens = tokens_of_page(seq.tokens, i);
    int32_t& own = page(sequence, i);
    const int32_t same = published_.find(parent, tokens);
    if (same != PrefixIndex::kNone) {
      hold_page(same);
      drop_page(own);
      own = same;
    } else if (reference_counts_[static_cast<size_t>(own)] > 1) {
      return;  // who shares it need not hold the pages before it under the same numbers
    } else {
      published_.insert(parent, tokens, own);
    }
    seq.n_published = i + 1;
  }
}

}  // namespace flexq
