// The longest of a set of pieces that a text begins with.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/tokenizer_data.h"

namespace flexq {

class PrefixMatcher {
 public:
  // Matches the pieces of one type. `data` must be valid, outlive the matcher and stay as it is.
  PrefixMatcher(const TokenizerData& data, PieceType type);

  bool empty() const { return ids_.empty(); }

  // The id of the longest piece that `text` begins with, or -1. One table look-up when no piece
  // begins with the first byte, otherwise a binary search per matching byte.
  int32_t longest_match(std::string_view text) const;

 private:
  const TokenizerData* data_;
  std::vector<int32_t> ids_;  // sorted by the bytes of the pieces
  // Pieces that begin with byte b are ids_[first_[b]] up to ids_[first_[b + 1]].
  std::array<int32_t, 257> first_{};
};

}  // namespace flexq
