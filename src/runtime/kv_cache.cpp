#include "runtime/kv_cache.h"

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
}

int32_t KvCache::take_page() {
  const int32_t taken = free_pages_.back();
  free_pages_.pop_back();
  reference_counts_[static_cast<size_t>(taken)] = 1;
  return taken;
}

void KvCache::drop_page(int32_t dropped) {
  if (--reference_counts_[static_cast<size_t>(dropped)] == 0) free_pages_.push_back(dropped);
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
  // Only the last page can be written to while shared: full pages never change again.
  const bool splits_page =
      !tokens.empty() && old_length % page_tokens_ != 0 &&
      reference_counts_[static_cast<size_t>(page(sequence, old_pages - 1))] > 1;
  const int64_t needed = int64_t{new_pages} - old_pages + (splits_page ? 1 : 0);
  if (needed > static_cast<int64_t>(free_pages_.size())) {
    return Status::error(
        StatusCode::kContextFull,
        "KV cache: sequence %d needs %lld more pages of %d tokens, found %lld free "
        "of %d",
        sequence, static_cast<long long>(needed), page_tokens_,
        static_cast<long long>(free_pages_.size()), pages_total());
  }
  if (splits_page) {
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
}

}  // namespace flexq
