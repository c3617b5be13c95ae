// Bookkeeping of the paged KV cache: which pages hold which sequence. Pure host code; the device
// supplies page memory and attention over the block tables. Allocates only when it is made.
//
// Full pages that were published can be shared by sequences that begin with the same tokens. Such a
// page stays behind when no sequence holds it any more, a cached page, and is given up when no free
// one is left, the least recently held first. A sequence holds with a page all those before it, so
// a page is never given up before those behind it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "runtime/prefix_index.h"

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

  // How many of the tokens, whole pages of them and fewer than all, published pages hold.
  int32_t find_prefix(std::span<const int32_t> tokens) const;
  // Puts those into an empty sequence and returns their number.
  int32_t adopt_prefix(int32_t sequence, std::span<const int32_t> tokens);
  // Lets others adopt the sequence's full pages, which must have been computed. Where another page
  // holds the same tokens behind the same others, the sequence goes on with that one. From the
  // first page on that it shares since a fork, and that is not published, it keeps them for itself.
  void publish(int32_t sequence);

  // Pages that append(sequence, n_tokens tokens) would take.
  int32_t pages_needed(int32_t sequence, int32_t n_tokens) const;
  int32_t pages_available() const { return pages_free() + n_cached_; }

  // (n_sequences, pages_per_sequence) page numbers.
  const int32_t* block_tables() const { return block_tables_.data(); }

  // The page that holds the sequence's positions from index * page_tokens on.
  int32_t page_of(int32_t sequence, int32_t index) const { return page(sequence, index); }

  int32_t pages_total() const { return static_cast<int32_t>(reference_counts_.size()); }
  // By sequences.
  int32_t pages_used() const { return pages_total() - pages_available(); }
  int32_t pages_cached() const { return n_cached_; }
  int64_t pages_copied() const { return pages_copied_; }

 private:
  struct Sequence {
    std::vector<int32_t> tokens;  // capacity: context_tokens
    int32_t n_published = 0;      // of its pages, from the first on
  };
  // A place in the list of cached pages.
  struct CachedPage {
    int32_t before = PrefixIndex::kNone;
    int32_t after = PrefixIndex::kNone;
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
  int32_t page(int32_t sequence, int32_t index) const {
    return block_tables_[static_cast<size_t>(sequence) * static_cast<size_t>(pages_per_sequence_) +
                         static_cast<size_t>(index)];
  }
  int32_t pages_free() const { return static_cast<int32_t>(free_pages_.size()); }
  std::span<const int32_t> tokens_of_page(std::span<const int32_t> tokens, int32_t index) const {
    return tokens.subspan(static_cast<size_t>(index) * static_cast<size_t>(page_tokens_),
                          static_cast<size_t>(page_tokens_));
  }
  // Whether the next token of a sequence falls into a page that must not be written to.
  bool splits_page(int32_t sequence) const;
  int32_t take_page();
  // One holder more, or less.
  void hold_page(int32_t page);
  void drop_page(int32_t page);
  CachedPage& cached(int32_t page) { return cached_pages_[static_cast<size_t>(page)]; }
  void cache_page(int32_t page);    // as the most recently held one
  void uncache_page(int32_t page);  // takes it out of the list

  int32_t context_tokens_ = 0;
  int32_t page_tokens_ = 1;
  int32_t pages_per_sequence_ = 0;
  std::vector<Sequence> sequences_;
  std::vector<int32_t> block_tables_;
  std::vector<int32_t> reference_counts_;  // per page; 0: free or cached
  std::vector<int32_t> free_pages_;        // a stack, lowest page on top at the start
  PrefixIndex published_;
  std::vector<CachedPage> cached_pages_;  // per page: a list of those cached, by time
  int32_t oldest_cached_ = PrefixIndex::kNone;
  int32_t newest_cached_ = PrefixIndex::kNone;
  int32_t n_cached_ = 0;
  int64_t pages_copied_ = 0;
};

}  // namespace flexq
