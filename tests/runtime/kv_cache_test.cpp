// KvCache under random operations against a model that only knows lists of tokens. Page memory is
// simulated: whoever appends writes its tokens through the block table, copies are real copies, so
// that a page that is shared when it should not be shows up as somebody else's tokens.
#include "runtime/kv_cache.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <vector>

namespace flexq::test {
namespace {

class CacheModel {
 public:
  CacheModel(int32_t n_sequences, int32_t context_tokens, int32_t page_tokens, int32_t n_pages)
      : context_tokens_(context_tokens),
        page_tokens_(page_tokens),
        pages_per_sequence_((context_tokens + page_tokens - 1) / page_tokens),
        cache_(n_sequences, context_tokens, page_tokens, n_pages),
        memory_(static_cast<size_t>(n_pages * page_tokens), -1),
        expected_(static_cast<size_t>(n_sequences)) {}

  const KvCache& cache() const { return cache_; }

  StatusCode append(int32_t sequence, const std::vector<int32_t>& tokens) {
    std::vector<int32_t>& held = expected_[static_cast<size_t>(sequence)];
    const size_t old_length = held.size();
    const bool too_long = held.size() + tokens.size() > static_cast<size_t>(context_tokens_);
    const bool no_page = pages_needed(sequence, tokens.size()) >
                         static_cast<size_t>(cache_.pages_total()) - distinct_pages().size();
    int copies = 0;
    const int64_t copied_before = cache_.pages_copied();
    const Status status = cache_.append(sequence, tokens, [&](int32_t from, int32_t to) -> Status {
      ++copies;
      std::copy_n(slot(from, 0), page_tokens_, slot(to, 0));
      return Status();
    });
    CHECK(status.ok() == (!too_long && !no_page));
    CHECK(cache_.pages_copied() - copied_before == copies);
    if (!status.ok()) {
      CHECK(status.code() == StatusCode::kContextFull);
      CHECK(copies == 0);
      return status.code();
    }
    held.insert(held.end(), tokens.begin(), tokens.end());
    for (size_t p = old_length; p < held.size(); ++p) {
      published_.erase(page_of(sequence, p / static_cast<size_t>(page_tokens_)));
      *slot_of(sequence, p) = held[p];
    }
    return StatusCode::kOk;
  }

  void publish(int32_t sequence) {
    cache_.publish(sequence);
    for (size_t i = 0; i < length(sequence) / static_cast<size_t>(page_tokens_); ++i) {
      const int32_t page = page_of(sequence, i);
      if (all_pages().count(page) > 1 && !published_.contains(page)) break;
      published_.insert(page);
    }
  }

  // Empties the sequence and begins it with what is there of `tokens`. Returns how much that was.
  size_t adopt(int32_t sequence, const std::vector<int32_t>& tokens) {
    rewind(sequence, 0);
    const int32_t found = cache_.find_prefix(tokens);
    const int32_t adopted = cache_.adopt_prefix(sequence, tokens);
    CHECK(found == adopted);
    CHECK(adopted % page_tokens_ == 0);
    CHECK(adopted < static_cast<int32_t>(tokens.size()));
    for (size_t s = 0; s < expected_.size(); ++s)
      CHECK(static_cast<size_t>(adopted) >= published_in_common(static_cast<int32_t>(s), tokens));
    expected_[static_cast<size_t>(sequence)].assign(tokens.begin(), tokens.begin() + adopted);
    return static_cast<size_t>(adopted);
  }

  void rewind(int32_t sequence, size_t n_tokens) {
    cache_.rewind(sequence, static_cast<int32_t>(n_tokens));
    expected_[static_cast<size_t>(sequence)].resize(n_tokens);
  }

  void fork(int32_t from, int32_t to) {
    cache_.fork(from, to);
    expected_[static_cast<size_t>(to)] = std::vector<int32_t>(expected_[static_cast<size_t>(from)]);
  }

  size_t length(int32_t sequence) const { return expected_[static_cast<size_t>(sequence)].size(); }

  void check() {
    for (size_t s = 0; s < expected_.size(); ++s) {
      const auto sequence = static_cast<int32_t>(s);
      const auto tokens = cache_.tokens(sequence);
      REQUIRE(std::vector<int32_t>(tokens.begin(), tokens.end()) == expected_[s]);
      REQUIRE(cache_.length(sequence) == static_cast<int32_t>(expected_[s].size()));
      for (size_t p = 0; p < expected_[s].size(); ++p)
        REQUIRE(*slot_of(sequence, p) == expected_[s][p]);
    }
    REQUIRE(cache_.pages_used() == static_cast<int32_t>(distinct_pages().size()));
  }

 private:
  int32_t* slot(int32_t page, int32_t index) {
    REQUIRE(page >= 0);
    REQUIRE(page < cache_.pages_total());
    return &memory_[static_cast<size_t>(page * page_tokens_ + index)];
  }
  int32_t page_of(int32_t sequence, size_t index) const {
    return cache_.block_tables()[sequence * pages_per_sequence_ + static_cast<int32_t>(index)];
  }
  int32_t* slot_of(int32_t sequence, size_t position) {
    const auto page_tokens = static_cast<size_t>(page_tokens_);
    return slot(page_of(sequence, position / page_tokens),
                static_cast<int32_t>(position % page_tokens));
  }
  size_t n_pages_of(size_t n_tokens) const {
    return (n_tokens + static_cast<size_t>(page_tokens_) - 1) / static_cast<size_t>(page_tokens_);
  }
  std::multiset<int32_t> all_pages() const {
    std::multiset<int32_t> pages;
    for (size_t s = 0; s < expected_.size(); ++s)
      for (size_t i = 0; i < n_pages_of(expected_[s].size()); ++i)
        pages.insert(page_of(static_cast<int32_t>(s), i));
    return pages;
  }
  std::set<int32_t> distinct_pages() const {
    const std::multiset<int32_t> pages = all_pages();
    return {pages.begin(), pages.end()};
  }
  size_t pages_needed(int32_t sequence, size_t n_new) const {
    const size_t old_length = length(sequence);
    const size_t fresh = n_pages_of(old_length + n_new) - n_pages_of(old_length);
    const bool partial = old_length % static_cast<size_t>(page_tokens_) != 0;
    if (!partial) return fresh;
    const int32_t last = page_of(sequence, n_pages_of(old_length) - 1);
    const bool fixed = all_pages().count(last) > 1 || published_.contains(last);
    return fresh + (n_new > 0 && fixed ? 1 : 0);
  }
  // Whole pages, fewer than all tokens, that a sequence has published and `tokens` begin with.
  size_t published_in_common(int32_t sequence, const std::vector<int32_t>& tokens) const {
    const auto page_tokens = static_cast<size_t>(page_tokens_);
    const std::vector<int32_t>& held = expected_[static_cast<size_t>(sequence)];
    size_t n = 0;
    while (n + page_tokens <= held.size() && n + page_tokens < tokens.size() &&
           published_.contains(page_of(sequence, n / page_tokens)) &&
           std::equal(held.begin() + static_cast<ptrdiff_t>(n),
                      held.begin() + static_cast<ptrdiff_t>(n + page_tokens),
                      tokens.begin() + static_cast<ptrdiff_t>(n)))
      n += page_tokens;
    return n;
  }

  int32_t context_tokens_;
  int32_t page_tokens_;
  int32_t pages_per_sequence_;
  KvCache cache_;
  std::vector<int32_t> memory_;  // (n_pages, page_tokens)
  std::set<int32_t> published_;  // pages
  std::vector<std::vector<int32_t>> expected_;
};

struct Sizes {
  int32_t n_sequences, context_tokens, page_tokens, n_pages;
};

}  // namespace

TEST_CASE("kv cache: random operations against plain lists of tokens") {
  // Many pages, few pages for many sequences, one page, pages of one token, a context that is not
  // a whole number of pages.
  const Sizes sizes[] = {
      {3, 64, 16, 12}, {8, 50, 8, 14}, {5, 16, 16, 1}, {4, 9, 1, 20}, {6, 37, 4, 25}};
  std::mt19937 random(11);
  const auto below = [&](size_t n) { return random() % n; };
  int n_full = 0;
  for (const Sizes& size : sizes) {
    CacheModel model(size.n_sequences, size.context_tokens, size.page_tokens, size.n_pages);
    const auto any_sequence = [&] {
      return static_cast<int32_t>(below(static_cast<size_t>(size.n_sequences)));
    };
    int32_t next_token = 0;
    for (int step = 0; step < 4000; ++step) {
      const int32_t sequence = any_sequence();
      switch (below(8)) {
        case 0:
          model.fork(sequence, any_sequence());
          break;
        case 1:
        case 2:
          model.rewind(sequence, below(model.length(sequence) + 1));
          break;
        default: {
          std::vector<int32_t> tokens(below(below(4) == 0 ? 40 : 6));
          for (int32_t& token : tokens)
            token = next_token++;
          if (model.append(sequence, tokens) == StatusCode::kContextFull) ++n_full;
        }
      }
      model.check();
    }
    for (int32_t s = 0; s < size.n_sequences; ++s)
      model.rewind(s, 0);
    CHECK(model.cache().pages_used() == 0);
  }
  CHECK(n_full > 500);
}

TEST_CASE("kv cache: published pages are found, shared, copied before a write and given up last") {
  const Sizes sizes[] = {{4, 64, 4, 40}, {6, 40, 4, 14}, {3, 16, 16, 2}, {4, 12, 1, 20}};
  std::mt19937 random(12);
  const auto below = [&](size_t n) { return random() % n; };
  size_t n_adopted = 0;
  int n_full = 0;
  int n_cached = 0;
  for (const Sizes& size : sizes) {
    CacheModel model(size.n_sequences, size.context_tokens, size.page_tokens, size.n_pages);
    // Texts of one token but for where they end, so that many begin alike.
    const auto any_tokens = [&](size_t n) {
      std::vector<int32_t> tokens(n, 7);
      for (size_t i = 0; i < std::min<size_t>(n, 3); ++i)
        tokens[n - 1 - i] = static_cast<int32_t>(below(3));
      return tokens;
    };
    for (int step = 0; step < 4000; ++step) {
      const auto sequence = static_cast<int32_t>(below(static_cast<size_t>(size.n_sequences)));
      switch (below(8)) {
        case 0:
          model.fork(sequence, static_cast<int32_t>(below(static_cast<size_t>(size.n_sequences))));
          break;
        case 1:
          model.rewind(sequence, below(model.length(sequence) + 1));
          break;
        case 2:
          n_adopted += model.adopt(sequence, any_tokens(1 + below(30)));
          break;
        case 3:
        case 4:
          model.publish(sequence);
          break;
        default:
          if (model.append(sequence, any_tokens(1 + below(12))) == StatusCode::kContextFull)
            ++n_full;
      }
      model.check();
    }
    for (int32_t s = 0; s < size.n_sequences; ++s)
      model.rewind(s, 0);
    CHECK(model.cache().pages_used() == 0);
    CHECK(model.cache().pages_available() == size.n_pages);
    n_cached += model.cache().pages_cached();
  }
  CHECK(n_cached > 0);
  CHECK(n_adopted > 2000);
  CHECK(n_full > 200);
}

TEST_CASE("kv cache: pages shared since a fork are published by who holds them alone") {
  const auto copy = [](int32_t, int32_t) { return Status(); };
  KvCache cache(4, 64, 4, 8);
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<int32_t> longer = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const std::vector<int32_t> first = {1, 2, 3, 4};
  REQUIRE(cache.append(0, first, copy).ok());
  cache.publish(0);
  REQUIRE(cache.append(1, tokens, copy).ok());
  cache.fork(1, 2);
  cache.publish(1);  // goes on with the page of sequence 0; its second page is shared
  CHECK(cache.find_prefix(longer) == 4);
  cache.rewind(0, 0);
  cache.rewind(1, 0);
  // Gives up the cached page, in whose place others come.
  std::vector<int32_t> others(24);
  std::iota(others.begin(), others.end(), 100);
  REQUIRE(cache.append(3, others, copy).ok());
  cache.publish(3);
  CHECK(cache.find_prefix(longer) == 0);
  cache.publish(2);
  CHECK(cache.find_prefix(longer) == 8);
  others.push_back(0);
  CHECK(cache.find_prefix(others) == 24);
}

TEST_CASE("kv cache: the least recently held pages are given up first, those behind others first") {
  const auto copy = [](int32_t, int32_t) { return Status(); };
  KvCache cache(2, 64, 4, 6);
  const auto tokens_from = [](int32_t first, size_t n) {
    std::vector<int32_t> tokens(n);
    std::iota(tokens.begin(), tokens.end(), first);
    return tokens;
  };
  const auto fill = [&](int32_t first, size_t n) {
    REQUIRE(cache.append(0, tokens_from(first, n), copy).ok());
    cache.publish(0);
    cache.rewind(0, 0);
  };
  fill(100, 12);
  fill(200, 8);
  CHECK(cache.pages_cached() == 5);
  CHECK(cache.find_prefix(tokens_from(100, 13)) == 12);
  CHECK(cache.find_prefix(tokens_from(100, 12)) == 8);  // one token is left to compute
  fill(300, 8);                                         // needs one more than are free
  CHECK(cache.find_prefix(tokens_from(100, 13)) == 8);
  CHECK(cache.adopt_prefix(1, tokens_from(100, 9)) == 8);  // held now, so 200 is older
  cache.rewind(1, 0);
  fill(400, 4);
  CHECK(cache.find_prefix(tokens_from(100, 13)) == 8);
  CHECK(cache.find_prefix(tokens_from(200, 9)) == 4);
  CHECK(cache.find_prefix(tokens_from(300, 9)) == 8);
}

TEST_CASE("kv cache: a failing copy changes nothing") {
  KvCache cache(2, 32, 8, 4);
  const std::vector<int32_t> tokens = {1, 2, 3};
  const auto copy = [](int32_t, int32_t) { return Status(); };
  const auto fail = [](int32_t, int32_t) {
    return Status::error(StatusCode::kDeviceLost, "the device is gone");
  };
  REQUIRE(cache.append(0, tokens, copy).ok());
  cache.fork(0, 1);
  CHECK(cache.append(1, tokens, fail).code() == StatusCode::kDeviceLost);
  CHECK(cache.pages_used() == 1);
  CHECK(cache.length(1) == 3);
  CHECK(cache.pages_copied() == 0);
  REQUIRE(cache.append(1, tokens, copy).ok());
  CHECK(cache.pages_used() == 2);
  CHECK(cache.pages_copied() == 1);
  CHECK(cache.length(0) == 3);
}

}  // namespace flexq::test
