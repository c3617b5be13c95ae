// Pieces of a vocabulary in the order of their bytes: what many begin with is looked at once.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace flexq {

class SortedPieces {
 public:
  // The pieces of `tokens` as Tokenizer::piece_bytes, each of which is one byte or more.
  SortedPieces(const Tokenizer& tokenizer, std::vector<int32_t> tokens);

  // The longest piece, in bytes.
  int32_t longest_bytes() const { return longest_bytes_; }

  // Runs an automaton over all pieces from one state. states: (longest_bytes() + 1), scratch but
  // for states[0], where each piece starts. visit(token, state) is called for those that it accepts
  // whole; a beginning that it refuses is skipped with all that have it. Returns how many bytes it
  // was asked about.
  template <typename Automaton, typename Visit>
  int64_t walk(std::span<Automaton> states, Visit&& visit) const {
    int64_t n_asked = 0;
    for (size_t i = 0; i + 1 < entries_.size();) {
      const Entry& entry = entries_[i];
      const char* next = tails_.data() + entry.tail_begin;
      // states[d] is the one behind d bytes of this piece, since the last one was accepted so far.
      size_t depth = entry.n_shared;
      while (depth < entry.n_bytes) {
        states[depth + 1] = states[depth];
        ++n_asked;
        if (!states[depth + 1].accept(static_cast<uint8_t>(*next))) break;
        ++next;
        ++depth;
      }
      if (depth == entry.n_bytes) {
        visit(entry.token, states[depth]);
        ++i;
        continue;
      }
      for (++i; entries_[i].n_shared > depth;)
        i = entries_[i].next_shallower;
    }
    return n_asked;
  }

 private:
  struct Entry {
    int32_t token = -1;
    uint32_t next_shallower = 0;  // the next entry that shares less with the one before it
    uint32_t tail_begin = 0;      // in tails_
    uint16_t n_shared = 0;        // bytes at the beginning that the entry before has as well
    uint16_t n_bytes = 0;         // with these
  };

  // A copy in the order of the walk, without what is shared: the tokenizer's own bytes, in the
  // order of ids, would be a cache miss for each piece.
  std::string tails_;
  std::vector<Entry> entries_;  // one more than pieces, which shares nothing
  int32_t longest_bytes_ = 0;
};

}  // namespace flexq
