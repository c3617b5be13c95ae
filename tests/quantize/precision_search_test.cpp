// The knapsack behind policy auto, against every set there is.
#include "quantize/precision_search.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

namespace flexq::test {
namespace {

std::vector<PrecisionItem> random_items(uint32_t seed, size_t n) {
  std::mt19937 random(seed);
  std::vector<PrecisionItem> items;
  for (size_t i = 0; i < n; ++i) {
    const int64_t cost = random() % 2 == 0 ? 16'384 : 45'056;
    items.push_back({cost, (static_cast<double>(random() % 1000) - 100) * 1e-6});
  }
  return items;
}

double least_loss(const std::vector<PrecisionItem>& items, int64_t max_cost) {
  double least = 1e9;
  for (uint32_t bits = 0; bits < 1u << items.size(); ++bits) {
    WideSet wide(items.size());
    for (size_t i = 0; i < items.size(); ++i)
      wide[i] = (bits >> i & 1) != 0;
    if (cost_of(items, wide) <= max_cost) least = std::min(least, loss_of(items, wide));
  }
  return least;
}

}  // namespace

TEST_CASE("the front is the best of all sets at every cost") {
  for (uint32_t seed = 0; seed < 5; ++seed) {
    CAPTURE(seed);
    const std::vector<PrecisionItem> items = random_items(seed, 12);
    const PrecisionFront front(items);
    const int64_t total = total_cost(items);
    for (const int64_t part : {0, 1, 10, 25, 50, 75, 99, 100, 200}) {
      CAPTURE(part);
      const int64_t max_cost = total * part / 100;
      const WideSet wide = front.best_within(max_cost);
      CHECK(cost_of(items, wide) <= max_cost);
      CHECK(loss_of(items, wide) == doctest::Approx(least_loss(items, max_cost)).epsilon(1e-12));
    }
  }
}

TEST_CASE("layers that gain from narrow inputs stay narrow") {
  const std::vector<PrecisionItem> items = {{100, -1e-3}, {100, 0.0}, {100, 1e-9}};
  CHECK(PrecisionFront(items).best_within(300) == WideSet{false, false, true});
}

TEST_CASE("costs without a common divisor are rounded up, never over the limit") {
  std::vector<PrecisionItem> items;
  for (int64_t i = 0; i < 40; ++i)
    items.push_back({1'000'003 + i * i * 7919, 1e-4 / static_cast<double>(i + 1)});
  const PrecisionFront front(items);
  for (const int64_t part : {3, 25, 60}) {
    const int64_t max_cost = total_cost(items) * part / 100;
    const WideSet wide = front.best_within(max_cost);
    CHECK(cost_of(items, wide) <= max_cost);
    CHECK(cost_of(items, wide) > max_cost - 2 * items.back().cost);
  }
}

TEST_CASE("exchanges differ from the set, keep the cost and come best first") {
  const std::vector<PrecisionItem> items = random_items(9, 14);
  const int64_t max_cost = total_cost(items) / 3;
  const WideSet best = PrecisionFront(items).best_within(max_cost);
  const std::vector<WideSet> sets = exchanges(items, best, max_cost, 4);
  REQUIRE(sets.size() >= 2);
  CHECK(sets.size() <= 4);
  double last = loss_of(items, best);
  for (const WideSet& set : sets) {
    CHECK(set != best);
    CHECK(cost_of(items, set) <= max_cost);
    CHECK(loss_of(items, set) >= last);
    last = loss_of(items, set);
  }
  CHECK(exchanges(items, WideSet(items.size()), max_cost, 4).empty());
}

}  // namespace flexq::test
