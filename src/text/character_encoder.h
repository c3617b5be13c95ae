// Character BPE: the merges that Hugging Face's tokenizer.json lists for a SentencePiece model
// (LLaMA-2, Mistral).
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/piece_table.h"
#include "text/prefix_matcher.h"
#include "text/text_encoder.h"
#include "text/tokenizer_data.h"

namespace flexq {

class RankMerger;

class CharacterEncoder : public TextEncoder {
 public:
  // `data` must be valid, outlive the encoder and stay as it is.
  static Result<std::unique_ptr<const TextEncoder>> create(const TokenizerData& data);

  Status encode(std::string_view text, bool at_start, std::vector<int32_t>& ids,
                EncodeCounters& counters) const override;
  int32_t id_of(std::string_view piece) const override { return pieces_.find(piece); }

 private:
  CharacterEncoder(const TokenizerData& data, PieceTable pieces, MergeTable merges);

  std::string normalize(std::string_view text, bool at_start) const;
  void encode_plain(std::string_view text, bool at_start, RankMerger& merger,
                    std::vector<int32_t>& ids) const;

  const TokenizerData* data_;
  PieceTable pieces_;
  MergeTable merges_;
  PrefixMatcher user_defined_;
  std::array<int32_t, 256> byte_ids_{};  // with byte fallback only
};

}  // namespace flexq
