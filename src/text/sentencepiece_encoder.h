// SentencePiece's BPE: merge, again and again, the two neighbours whose union has the highest
// score (Sennrich et al. 2016, with the priority queue of SentencePiece's bpe_model.cc).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/piece_table.h"
#include "text/prefix_matcher.h"
#include "text/text_encoder.h"
#include "text/tokenizer_data.h"

namespace flexq {

// Gives the ids that SentencePiece 0.1.97 gives, with one exception: a control piece that is a
// single character is not produced from text.
class SentencePieceEncoder : public TextEncoder {
 public:
  // `data` must be valid, outlive the encoder and stay as it is.
  static Result<std::unique_ptr<const TextEncoder>> create(const TokenizerData& data);

  Status encode(std::string_view text, bool at_start, std::vector<int32_t>& ids,
                EncodeCounters& counters) const override;
  int32_t id_of(std::string_view piece) const override { return pieces_.find(piece); }

 private:
  SentencePieceEncoder(const TokenizerData& data, PieceTable pieces);

  std::string normalize(std::string_view text) const;
  int32_t find_mergeable(std::string_view piece) const;
  void append_piece(std::string_view piece, int32_t id, std::vector<int32_t>& ids) const;

  const TokenizerData* data_;
  PieceTable pieces_;
  PrefixMatcher user_defined_;
  int32_t byte_ids_[256];  // id of each byte piece; meaningful with byte fallback only

  class Merger;
};

}  // namespace flexq
