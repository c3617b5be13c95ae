// Byte-level BPE (LLaMA-3): a pattern cuts the text into parts, and the bytes of each part are
// merged by rank.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/piece_table.h"
#include "text/prefix_matcher.h"
#include "text/split_pattern.h"
#include "text/text_encoder.h"
#include "text/tokenizer_data.h"

namespace flexq {

class RankMerger;

// Gives the ids of tiktoken (merge_by_id) and of Hugging Face's tokenizers (with a list of merges)
// for valid UTF-8.
class ByteLevelEncoder : public TextEncoder {
 public:
  // `data` must be valid, outlive the encoder and stay as it is. Errors of SplitPattern::compile().
  static Result<std::unique_ptr<const TextEncoder>> create(const TokenizerData& data);

  Status encode(std::string_view text, bool at_start, std::vector<int32_t>& ids,
                EncodeCounters& counters) const override;
  int32_t id_of(std::string_view piece) const override { return pieces_.find(piece); }

 private:
  ByteLevelEncoder(const TokenizerData& data, PieceTable pieces, MergeTable merges);

  Status encode_plain(std::string_view text, RankMerger& merger, std::vector<int32_t>& ids) const;
  void encode_part(std::string_view part, RankMerger& merger, std::vector<int32_t>& ids) const;

  const TokenizerData* data_;
  PieceTable pieces_;
  MergeTable merges_;
  PrefixMatcher user_defined_;
  std::optional<SplitPattern> pattern_;  // none: the text is one part
  std::array<int32_t, 256> byte_ids_{};
};

}  // namespace flexq
