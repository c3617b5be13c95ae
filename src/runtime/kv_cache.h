// Bookkeeping of the paged KV cache: which pages hold which sequence. Pure host code; the device
// supplies page memory and attention over the block tables. Allocates only in create().
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"

namespace flexq {

class KvCache {
 public:
  KvCache() = default;
  // n_pages shared by n_sequences sequences of at most context_tokens tokens.
  KvCache(int32_t n_sequences, int32_t context_tokens, int32_t page_tokens, int32_t n_pages);

  int32_t n_sequences() const { return static_cast<int32_t>(sequences_.size()); }
  int32_t length(int32_t sequence) const {
    return static_cast<int32_t>(at(sequence).tokens.size());
  }
  // The tokens that a sequence holds, oldest first.
  std::span<const int32_t> tokens(int32_t sequence) const { return at(sequence).tokens; }

  // Makes room for `tokens` behind a sequence: takes pages, and where its last page is shared and
  // partly filled, a private copy made by copy_page(from, to). kContextFull leaves it as it was.
  Status append(int32_t sequence, std::span<const int32_t> tokens,
                FunctionRef<Status(int32_t from, int32_t to)> copy_page);

  // Keeps the first n_tokens, 0 <= n_tokens <= length; gives back pages no longer needed.
  void rewind(int32_t sequence, int32_t n_tokens);

  // Makes `to` share all pages of `from`.
  void fork(int32_t from, int32_t to);

  // (n_sequences, pages_per_sequence) page numbers.
  const int32_t* block_tables() const { return block_tables_.data(); }

  int32_t pages_total() const { return static_cast<int32_t>(reference_counts_.size()); }
  int32_t pages_used() const { return pages_total() - static_cast<int32_t>(free_pages_.size()); }
  int64_t pages_copied() const { return pages_copied_; }

 private:
  struct Sequence {
    std::vector<int32_t> tokens;  // capacity: context_tokens
  };
  Sequence& at(int32_t sequence) { return sequences_[static_cast<size_t>(sequence)]; }
  const Sequence& at(int32_t sequence) const { return sequences_[static_cast<size_t>(sequence)]; }
  int32_t& page(int32_t sequence, int32_t index) {
    return block_tables_[static_cast<size_t>(sequence) * static_cast<size_t>(pages_per_sequence_) +
                         static_cast<size_t>(index)];
  }
  int32_t pages_for(int64_t n_tokens) const {
    return static_cast<int32_t>((n_tokens + page_tokens_ - 1) / page_tokens_);
  }
  int32_t take_page();
  void drop_page(int32_t page);

  int32_t context_tokens_ = 0;
  int32_t page_tokens_ = 1;
  int32_t pages_per_sequence_ = 0;
  std::vector<Sequence> sequences_;
  std::vector<int32_t> block_tables_;
  std::vector<int32_t> reference_counts_;  // per page; 0: free
  std::vector<int32_t> free_pages_;        // a stack, lowest page on top at the start
  int64_t pages_copied_ = 0;
};

}  // namespace flexq
