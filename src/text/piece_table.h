// From the spelling of a piece to its id.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer_data.h"

namespace flexq {

// An open-addressing hash table of 16 to 32 bytes per piece. Vocabulary and text may both be
// hostile, so no lookup takes more than kMaxProbes steps: a vocabulary that cannot be stored that
// way under any of several hash functions is refused.
class PieceTable {
 public:
  static constexpr uint32_t kMaxProbes = 512;

  // `data` must outlive the table and stay as it is. kCorrupt for duplicate pieces.
  static Result<PieceTable> build(const TokenizerData& data);

  // The id of `piece`, or -1.
  int32_t find(std::string_view piece) const;

 private:
  struct Slot {
    uint32_t tag = 0;  // hash bits, compared before the bytes
    int32_t id = -1;   // -1: free
  };

  enum class Fill { kDone, kDuplicate, kTooClustered };
  Fill fill(uint64_t seed, int32_t* duplicate_id);

  const TokenizerData* data_ = nullptr;
  uint64_t seed_ = 0;
  std::vector<Slot> slots_;  // a power of two, at least twice the number of pieces
  size_t max_piece_bytes_ = 0;
};

}  // namespace flexq
