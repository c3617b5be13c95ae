// Which full KV pages hold which tokens behind which others: a tree of pages, so that a sequence
// that begins like an earlier one finds the pages to share. Allocates only in create().
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace flexq {

class PrefixIndex {
 public:
  static constexpr int32_t kNone = -1;  // no page; as a parent: the beginning of a sequence

  PrefixIndex() = default;
  PrefixIndex(int32_t n_pages, int32_t page_tokens);

  // The page that holds `tokens`, a full page's, behind those of `parent`; kNone where none does.
  int32_t find(int32_t parent, std::span<const int32_t> tokens) const;
  // Enters a page that is in no tree yet. No page may hold the same tokens behind the same parent.
  void insert(int32_t parent, std::span<const int32_t> tokens, int32_t page);
  // Takes out a page that no other one stands behind.
  void erase(int32_t page);

  bool contains(int32_t page) const { return at(page).entered; }
  bool has_children(int32_t page) const { return at(page).n_children > 0; }

 private:
  struct Node {
    int32_t parent = kNone;
    int32_t n_children = 0;
    int32_t next = kNone;  // of the same bucket
    bool entered = false;
  };
  const Node& at(int32_t page) const { return nodes_[static_cast<size_t>(page)]; }
  Node& at(int32_t page) { return nodes_[static_cast<size_t>(page)]; }
  std::span<int32_t> tokens_of(int32_t page);
  std::span<const int32_t> tokens_of(int32_t page) const;
  size_t bucket_of(int32_t parent, std::span<const int32_t> tokens) const;

  int32_t page_tokens_ = 1;
  std::vector<Node> nodes_;       // (n_pages)
  std::vector<int32_t> tokens_;   // (n_pages, page_tokens)
  std::vector<int32_t> buckets_;  // first pages of chains; a power of two of them
};

}  // namespace flexq
