#include "text/sorted_pieces.h"

#include <algorithm>

namespace flexq {

static_assert(kMaxVocabPieceBytes <= UINT16_MAX, "shared bytes are counted in 16 bits");

SortedPieces::SortedPieces(const Tokenizer& tokenizer, std::vector<int32_t> tokens) {
  std::sort(tokens.begin(), tokens.end(), [&](int32_t a, int32_t b) {
    const std::string_view a_bytes = tokenizer.piece_bytes(a);
    const std::string_view b_bytes = tokenizer.piece_bytes(b);
    return a_bytes != b_bytes ? a_bytes < b_bytes : a < b;
  });
  entries_.reserve(tokens.size() + 1);
  std::string_view before;
  for (const int32_t token : tokens) {
    const std::string_view bytes = tokenizer.piece_bytes(token);
    const auto end = std::mismatch(bytes.begin(), bytes.end(), before.begin(), before.end()).first;
    Entry entry;
    entry.token = token;
    entry.tail_begin = static_cast<uint32_t>(tails_.size());  // pieces are under 2^30 bytes in all
    entry.n_shared = static_cast<uint16_t>(end - bytes.begin());
    entry.n_bytes = static_cast<uint16_t>(bytes.size());
    entries_.push_back(entry);
    tails_.append(end, bytes.end());
    longest_bytes_ = std::max(longest_bytes_, static_cast<int32_t>(bytes.size()));
    before = bytes;
  }
  entries_.push_back({});
  for (size_t i = entries_.size() - 1; i-- > 0;) {
    size_t next = i + 1;
    while (entries_[i].n_shared > 0 && entries_[next].n_shared >= entries_[i].n_shared)
      next = entries_[next].next_shallower;
    entries_[i].next_shallower = static_cast<uint32_t>(next);
  }
}

}  // namespace flexq
