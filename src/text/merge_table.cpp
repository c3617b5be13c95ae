#include "text/merge_table.h"

#include <algorithm>
#include <string>

#include "text/piece_name.h"

namespace flexq {
namespace {

// The piece that merge `rank` gives.
Result<int32_t> find_result(const TokenizerData& data, const PieceTable& pieces, int32_t rank,
                            std::string& scratch) {
  const Merge merge = data.merges[static_cast<size_t>(rank)];
  for (const int32_t id : {merge.left, merge.right}) {
    if (id < 0 || id >= data.n_vocab())
      return Status::error(StatusCode::kCorrupt, "merge %d: piece id %d, expected 0 to %d", rank,
                           id, data.n_vocab() - 1);
    if (!is_mergeable(data.types[static_cast<size_t>(id)]))
      return Status::error(StatusCode::kCorrupt,
                           "merge %d: piece %d, %s, is of type %d, expected a normal piece", rank,
                           id, PieceName(data.piece(id)).c_str(),
                           static_cast<int>(data.types[static_cast<size_t>(id)]));
  }
  scratch.assign(data.piece(merge.left)).append(data.piece(merge.right));
  const int32_t result = pieces.find(scratch);
  if (result < 0 || !is_mergeable(data.types[static_cast<size_t>(result)]))
    return Status::error(StatusCode::kCorrupt,
                         "merge %d of %s and %s: the vocabulary has no normal piece %s", rank,
                         PieceName(data.piece(merge.left)).c_str(),
                         PieceName(data.piece(merge.right)).c_str(), PieceName(scratch).c_str());
  return result;
}

}  // namespace

Result<MergeTable> MergeTable::build(const TokenizerData& data, const PieceTable& pieces) {
  MergeTable table;
  table.first_.resize(data.types.size() + 1);
  table.entries_.resize(data.merges.size());
  const auto n_merges = static_cast<int32_t>(data.merges.size());
  std::vector<int32_t> results(data.merges.size());
  std::string scratch;
  for (int32_t rank = 0; rank < n_merges; ++rank) {
    const auto i = static_cast<size_t>(rank);
    FLEXQ_ASSIGN_OR_RETURN(results[i], find_result(data, pieces, rank, scratch));
    ++table.first_[static_cast<size_t>(data.merges[i].left) + 1];
  }
  for (size_t id = 0; id < data.types.size(); ++id)
    table.first_[id + 1] += table.first_[id];

  std::vector<uint32_t> next(table.first_.begin(), table.first_.end() - 1);
  for (int32_t rank = 0; rank < n_merges; ++rank) {
    const auto i = static_cast<size_t>(rank);
    const Merge merge = data.merges[i];
    table.entries_[next[static_cast<size_t>(merge.left)]++] = {merge.right, rank, results[i]};
  }
  for (size_t left = 0; left < data.types.size(); ++left) {
    const auto begin = table.entries_.begin() + table.first_[left];
    const auto end = table.entries_.begin() + table.first_[left + 1];
    std::sort(begin, end, [](const Entry& a, const Entry& b) {
      return a.right < b.right || (a.right == b.right && a.rank < b.rank);
    });
    const auto twice = std::adjacent_find(
        begin, end, [](const Entry& a, const Entry& b) { return a.right == b.right; });
    if (twice != end)
      return Status::error(StatusCode::kCorrupt, "merges %d and %d are both of %s and %s",
                           twice->rank, (twice + 1)->rank,
                           PieceName(data.piece(static_cast<int32_t>(left))).c_str(),
                           PieceName(data.piece(twice->right)).c_str());
  }
  return table;
}

const MergeTable::Entry* MergeTable::find(int32_t left, int32_t right) const {
  const Entry* begin = entries_.data() + first_[static_cast<size_t>(left)];
  const Entry* end = entries_.data() + first_[static_cast<size_t>(left) + 1];
  const Entry* at = std::lower_bound(
      begin, end, right, [](const Entry& entry, int32_t id) { return entry.right < id; });
  return at != end && at->right == right ? at : nullptr;
}

}  // namespace flexq
