// From two neighbouring pieces to the merge of them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "text/piece_table.h"
#include "text/tokenizer_data.h"

namespace flexq {

// Immutable. 12 bytes per merge and 4 per piece; a look-up is a binary search among the merges with
// the same left piece.
class MergeTable {
 public:
  struct Entry {
    int32_t right = 0;
    int32_t rank = 0;    // place in the list of merges: the lowest comes first
    int32_t result = 0;  // the piece that the two become
  };

  // `pieces` is the table of `data`; neither is needed afterwards. kCorrupt for a merge of pieces
  // that do not exist or that no text may become, into no piece, or listed twice.
  static Result<MergeTable> build(const TokenizerData& data, const PieceTable& pieces);

  // The merge of `left` and `right`, which are ids of the vocabulary, or null.
  const Entry* find(int32_t left, int32_t right) const;

 private:
  std::vector<uint32_t> first_;  // (n_vocab + 1): merges of left piece i are first_[i] up to
                                 // first_[i + 1] of entries_
  std::vector<Entry> entries_;   // sorted by left piece, then by right one
};

// Whether plain text may become a piece of this type by merging.
constexpr bool is_mergeable(PieceType type) {
  return type == PieceType::kNormal || type == PieceType::kUserDefined;
}

}  // namespace flexq
