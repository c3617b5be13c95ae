// Which linear layers should take 8-bit inputs, when what each loses with 6-bit ones is known and
// losses add up: a knapsack, solved exactly for every amount of 8-bit work at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace flexq {

// One linear layer, or whatever else is narrow or wide as a whole.
struct PrecisionItem {
  int64_t cost = 0;        // of being wide: multiply-accumulates per token, 1 or more
  double narrow_loss = 0;  // of being narrow, against being wide; negative counts as none
};

// Per item: whether it is wide.
using WideSet = std::vector<bool>;

int64_t total_cost(std::span<const PrecisionItem> items);
int64_t cost_of(std::span<const PrecisionItem> items, const WideSet& wide);
double loss_of(std::span<const PrecisionItem> items, const WideSet& wide);

// Sets of least loss by their cost. Equal input gives equal sets: where two are as good, the one
// with later items narrow.
class PrecisionFront {
 public:
  explicit PrecisionFront(std::span<const PrecisionItem> items);

  // The set of least loss among those that cost at most max_cost.
  WideSet best_within(int64_t max_cost) const;

 private:
  int64_t units_of(int64_t cost) const { return (cost + unit_ - 1) / unit_; }

  std::vector<PrecisionItem> items_;
  int64_t unit_ = 1;     // of cost, in the tables
  int64_t n_units_ = 0;  // of all items
  // [item * (n_units + 1) + room]: whether the best set of items 0 .. item within `room` has it.
  std::vector<bool> takes_;
};

// Sets that are one exchange away from `wide` and cost at most max_cost: one wide item becomes
// narrow and, in its place, narrow ones that fit become wide. Up to n_most of them, least expected
// loss first.
std::vector<WideSet> exchanges(std::span<const PrecisionItem> items, const WideSet& wide,
                               int64_t max_cost, size_t n_most);

}  // namespace flexq
