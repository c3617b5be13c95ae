#include "runtime/prefix_index.h"

#include <algorithm>
#include <bit>

namespace flexq {

PrefixIndex::PrefixIndex(int32_t n_pages, int32_t page_tokens) : page_tokens_(page_tokens) {
  const auto n = static_cast<size_t>(n_pages);
  nodes_.resize(n);
  tokens_.resize(n * static_cast<size_t>(page_tokens));
  buckets_.assign(std::bit_ceil(n), kNone);
}

std::span<int32_t> PrefixIndex::tokens_of(int32_t page) {
  const auto n = static_cast<size_t>(page_tokens_);
  return std::span(tokens_).subspan(static_cast<size_t>(page) * n, n);
}

std::span<const int32_t> PrefixIndex::tokens_of(int32_t page) const {
  const auto n = static_cast<size_t>(page_tokens_);
  return std::span(tokens_).subspan(static_cast<size_t>(page) * n, n);
}

// FNV-1a over words: spreads well enough, and what it finds is compared token by token.
size_t PrefixIndex::bucket_of(int32_t parent, std::span<const int32_t> tokens) const {
  uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&hash](int32_t word) {
    hash = (hash ^ static_cast<uint32_t>(word)) * 0x100000001b3u;
  };
  mix(parent);
  for (const int32_t token : tokens)
    mix(token);
  return static_cast<size_t>(hash ^ (hash >> 32)) & (buckets_.size() - 1);
}

int32_t PrefixIndex::find(int32_t parent, std::span<const int32_t> tokens) const {
  int32_t page = buckets_[bucket_of(parent, tokens)];
  while (page != kNone &&
         !(at(page).parent == parent && std::ranges::equal(tokens_of(page), tokens)))
    page = at(page).next;
  return page;
}

void PrefixIndex::insert(int32_t parent, std::span<const int32_t> tokens, int32_t page) {
  int32_t& bucket = buckets_[bucket_of(parent, tokens)];
  at(page) = {parent, 0, bucket, true};
  std::ranges::copy(tokens, tokens_of(page).begin());
  bucket = page;
  if (parent != kNone) ++at(parent).n_children;
}

void PrefixIndex::erase(int32_t page) {
  int32_t* link = &buckets_[bucket_of(at(page).parent, tokens_of(page))];
  while (*link != page)
    link = &at(*link).next;
  *link = at(page).next;
  if (at(page).parent != kNone) --at(at(page).parent).n_children;
  at(page) = Node();
}

}  // namespace flexq
