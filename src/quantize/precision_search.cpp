#include "quantize/precision_search.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace flexq {
namespace {

// Rows of the tables. The costs of a LLaMA's layers have a large common divisor: 147 units per
// layer in LLaMA-2-7B.
constexpr int64_t kMaxUnits = 1 << 16;

double loss_at(const PrecisionItem& item) {
  return std::max(item.narrow_loss, 0.0);
}

}  // namespace

int64_t total_cost(std::span<const PrecisionItem> items) {
  int64_t total = 0;
  for (const PrecisionItem& item : items)
    total += item.cost;
  return total;
}

int64_t cost_of(std::span<const PrecisionItem> items, const WideSet& wide) {
  int64_t cost = 0;
  for (size_t i = 0; i < items.size(); ++i)
    if (wide[i]) cost += items[i].cost;
  return cost;
}

double loss_of(std::span<const PrecisionItem> items, const WideSet& wide) {
  double loss = 0;
  for (size_t i = 0; i < items.size(); ++i)
    if (!wide[i]) loss += loss_at(items[i]);
  return loss;
}

PrecisionFront::PrecisionFront(std::span<const PrecisionItem> items)
    : items_(items.begin(), items.end()) {
  int64_t divisor = 0;
  for (const PrecisionItem& item : items_)
    divisor = std::gcd(divisor, item.cost);
  unit_ = std::max<int64_t>(divisor, 1);
  // Where that leaves too many units, costs are rounded up: sets stay within their limit and miss
  // the best by less than the rounding.
  const int64_t total = total_cost(items_);
  if (total / unit_ > kMaxUnits) unit_ = (total + kMaxUnits - 1) / kMaxUnits;
  for (const PrecisionItem& item : items_)
    n_units_ += units_of(item.cost);

  const auto width = static_cast<size_t>(n_units_) + 1;
  takes_.resize(items_.size() * width);
  std::vector<double> saved(width);  // most loss avoided within a room, by the items so far
  for (size_t i = 0; i < items_.size(); ++i) {
    const auto units = static_cast<size_t>(units_of(items_[i].cost));
    const double gain = loss_at(items_[i]);
    for (size_t room = width; room-- > units;) {
      const double with_item = saved[room - units] + gain;
      if (with_item <= saved[room]) continue;
      saved[room] = with_item;
      takes_[i * width + room] = true;
    }
  }
}

WideSet PrecisionFront::best_within(int64_t max_cost) const {
  const auto width = static_cast<size_t>(n_units_) + 1;
  WideSet wide(items_.size());
  auto room = static_cast<size_t>(std::clamp<int64_t>(max_cost / unit_, 0, n_units_));
  for (size_t i = items_.size(); i-- > 0;) {
    if (!takes_[i * width + room]) continue;
    wide[i] = true;
    room -= static_cast<size_t>(units_of(items_[i].cost));
  }
  return wide;
}

std::vector<WideSet> exchanges(std::span<const PrecisionItem> items, const WideSet& wide,
                               int64_t max_cost, size_t n_most) {
  const int64_t cost = cost_of(items, wide);
  std::vector<std::pair<double, WideSet>> found;
  for (size_t out = 0; out < items.size(); ++out) {
    if (!wide[out]) continue;
    // The best use of the room that this one leaves, among the items outside.
    std::vector<PrecisionItem> others;
    std::vector<size_t> places;
    for (size_t i = 0; i < items.size(); ++i) {
      if (wide[i]) continue;
      others.push_back(items[i]);
      places.push_back(i);
    }
    const WideSet in = PrecisionFront(others).best_within(max_cost - cost + items[out].cost);
    WideSet exchanged = wide;
    exchanged[out] = false;
    for (size_t i = 0; i < places.size(); ++i)
      if (in[i]) exchanged[places[i]] = true;
    found.emplace_back(loss_of(items, exchanged), std::move(exchanged));
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<WideSet> sets;
  for (size_t i = 0; i < std::min(n_most, found.size()); ++i)
    sets.push_back(std::move(found[i].second));
  return sets;
}

}  // namespace flexq
