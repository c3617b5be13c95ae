#include "text/prefix_matcher.h"

#include <algorithm>

namespace flexq {

PrefixMatcher::PrefixMatcher(const TokenizerData& data, PieceType type) : data_(&data) {
  for (int32_t id = 0; id < data.n_vocab(); ++id)
    if (data.types[static_cast<size_t>(id)] == type) ids_.push_back(id);
  // string_view compares bytes as unsigned values, as the byte look-ups below do.
  std::sort(ids_.begin(), ids_.end(),
            [&data](int32_t a, int32_t b) { return data.piece(a) < data.piece(b); });
  for (const int32_t id : ids_)
    ++first_[static_cast<uint8_t>(data.piece(id)[0]) + 1u];
  for (size_t byte = 0; byte < 256; ++byte)
    first_[byte + 1] += first_[byte];
}

int32_t PrefixMatcher::longest_match(std::string_view text) const {
  if (text.empty()) return -1;
  const uint8_t first_byte = static_cast<uint8_t>(text[0]);
  auto begin = ids_.begin() + first_[first_byte];
  auto end = ids_.begin() + first_[first_byte + 1u];
  int32_t longest = -1;
  // All pieces in [begin, end) begin with the first `n_bytes` bytes of the text.
  for (size_t n_bytes = 1; begin != end; ++n_bytes) {
    if (data_->piece(*begin).size() == n_bytes) longest = *begin++;
    if (n_bytes == text.size()) break;
    const uint8_t next = static_cast<uint8_t>(text[n_bytes]);
    const auto byte_at = [this, n_bytes](int32_t id) {
      return static_cast<uint8_t>(data_->piece(id)[n_bytes]);
    };
    begin = std::partition_point(begin, end, [&](int32_t id) { return byte_at(id) < next; });
    end = std::partition_point(begin, end, [&](int32_t id) { return byte_at(id) == next; });
  }
  return longest;
}

}  // namespace flexq
