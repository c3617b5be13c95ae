// BPE by rank: merge, again and again, the two neighbours whose merge has the lowest rank, the
// leftmost of equals (the loop of tiktoken and of Hugging Face's tokenizers, with a queue).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/piece_table.h"
#include "text/text_encoder.h"
#include "text/tokenizer_data.h"

namespace flexq {

// One call of encode(): reused for all parts of a text, so that memory is allocated once.
class RankMerger {
 public:
  // Borrows everything. Merges come from `merges` or, with data.merge_by_id, from `pieces`.
  RankMerger(const TokenizerData& data, const PieceTable& pieces, const MergeTable& merges,
             EncodeCounters& counters)
      : data_(data), pieces_(pieces), merges_(merges), counters_(counters) {}

  // Room for the symbols of a part.
  void reserve(size_t n_symbols) { symbols_.reserve(n_symbols); }

  // Appends a symbol: a piece that stands for the next `n_bytes` of the part.
  void add_symbol(int32_t id, uint32_t n_bytes);

  // Merges the symbols of `part`, of which they are the whole; appends the ids that are left.
  // O(n log n) for n symbols.
  void merge(std::string_view part, std::vector<int32_t>& ids);

 private:
  struct Symbol {
    int32_t id;
    uint32_t begin;    // in the part
    uint32_t n_bytes;  // 0: merged into its left neighbour
    int32_t previous;  // -1 at the ends
    int32_t next;
  };

  struct Candidate {
    int32_t rank;
    int32_t left;
    int32_t right;
    uint32_t n_bytes;  // of both together, when proposed
    int32_t result;
    // The heap's greatest element is merged next: lowest rank, then leftmost.
    bool operator<(const Candidate& other) const {
      return rank > other.rank || (rank == other.rank && left > other.left);
    }
  };

  Symbol& symbol(int32_t index) { return symbols_[static_cast<size_t>(index)]; }
  bool propose(std::string_view part, int32_t left_index, int32_t right_index);

  const TokenizerData& data_;
  const PieceTable& pieces_;
  const MergeTable& merges_;
  EncodeCounters& counters_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> queue_;
  uint32_t n_bytes_ = 0;  // of all symbols
};

}  // namespace flexq
