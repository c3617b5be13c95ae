#include "text/rank_merger.h"

#include <algorithm>

namespace flexq {

void RankMerger::add_symbol(int32_t id, uint32_t n_bytes) {
  const int32_t index = static_cast<int32_t>(symbols_.size());
  if (index > 0) symbols_.back().next = index;
  symbols_.push_back({id, n_bytes_, n_bytes, index - 1, -1});
  n_bytes_ += n_bytes;
}

void RankMerger::merge(std::string_view part, std::vector<int32_t>& ids) {
  for (int32_t right = 1; right < static_cast<int32_t>(symbols_.size()); ++right)
    propose(part, right - 1, right);
  std::make_heap(queue_.begin(), queue_.end());
  while (!queue_.empty()) {
    std::pop_heap(queue_.begin(), queue_.end());
    const Candidate best = queue_.back();
    queue_.pop_back();
    ++counters_.n_queue_operations;
    Symbol& left = symbol(best.left);
    Symbol& right = symbol(best.right);
    // Outdated when either side was merged away or has grown since.
    if (left.n_bytes == 0 || right.n_bytes == 0 || left.n_bytes + right.n_bytes != best.n_bytes)
      continue;
    left.id = best.result;
    left.n_bytes = best.n_bytes;
    right.n_bytes = 0;
    left.next = right.next;
    if (left.next >= 0) symbol(left.next).previous = best.left;
    if (propose(part, left.previous, best.left)) std::push_heap(queue_.begin(), queue_.end());
    if (propose(part, best.left, left.next)) std::push_heap(queue_.begin(), queue_.end());
  }
  for (const Symbol& s : symbols_)
    if (s.n_bytes > 0) ids.push_back(s.id);
  symbols_.clear();
  n_bytes_ = 0;
}

// Puts the pair behind the queue when it can be merged.
bool RankMerger::propose(std::string_view part, int32_t left_index, int32_t right_index) {
  if (left_index < 0 || right_index < 0) return false;
  const Symbol& left = symbol(left_index);
  const Symbol& right = symbol(right_index);
  const uint32_t n_bytes = left.n_bytes + right.n_bytes;
  int32_t rank = 0;
  int32_t result = 0;
  if (data_.merge_by_id) {
    result = rank = pieces_.find(part.substr(left.begin, n_bytes));
    if (result < 0 || !is_mergeable(data_.types[static_cast<size_t>(result)])) return false;
  } else {
    const MergeTable::Entry* merge = merges_.find(left.id, right.id);
    if (merge == nullptr) return false;
    rank = merge->rank;
    result = merge->result;
  }
  queue_.push_back({rank, left_index, right_index, n_bytes, result});
  ++counters_.n_queue_operations;
  return true;
}

}  // namespace flexq
