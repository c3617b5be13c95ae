#include "text/byte_level_encoder.h"

#include <string>

#include "text/rank_merger.h"
#include "text/utf8.h"

namespace flexq {

Result<std::unique_ptr<const TextEncoder>> ByteLevelEncoder::create(const TokenizerData& data) {
  FLEXQ_ASSIGN_OR_RETURN(PieceTable pieces, PieceTable::build(data));
  FLEXQ_ASSIGN_OR_RETURN(MergeTable merges, MergeTable::build(data, pieces));
  std::unique_ptr<ByteLevelEncoder> encoder(
      new ByteLevelEncoder(data, std::move(pieces), std::move(merges)));
  if (!data.split_pattern.empty()) {
    FLEXQ_ASSIGN_OR_RETURN(encoder->pattern_, SplitPattern::compile(data.split_pattern));
  }
  return std::unique_ptr<const TextEncoder>(std::move(encoder));
}

ByteLevelEncoder::ByteLevelEncoder(const TokenizerData& data, PieceTable pieces, MergeTable merges)
    : data_(&data),
      pieces_(std::move(pieces)),
      merges_(std::move(merges)),
      user_defined_(data, PieceType::kUserDefined) {
  for (int32_t id = 0; id < data.n_vocab(); ++id) {
    const std::string_view piece = data.piece(id);
    if (piece.size() == 1 && is_mergeable(data.types[static_cast<size_t>(id)]))
      byte_ids_[static_cast<uint8_t>(piece[0])] = id;
  }
}

Status ByteLevelEncoder::encode(std::string_view text, bool, std::vector<int32_t>& ids,
                                EncodeCounters& counters) const {
  std::string replaced;
  if (!is_valid_utf8(text)) {
    replaced = replace_invalid_utf8(text);
    text = replaced;
  }
  RankMerger merger(*data_, pieces_, merges_, counters);
  if (user_defined_.empty()) return encode_plain(text, merger, ids);
  for (size_t at = 0; at < text.size();) {
    const int32_t id = user_defined_.longest_match(text.substr(at));
    if (id < 0) {
      ++at;
      continue;
    }
    FLEXQ_RETURN_IF_ERROR(encode_plain(text.substr(0, at), merger, ids));
    ids.push_back(id);
    text.remove_prefix(at + data_->piece(id).size());
    at = 0;
  }
  return encode_plain(text, merger, ids);
}

// Valid UTF-8 without user-defined pieces.
Status ByteLevelEncoder::encode_plain(std::string_view text, RankMerger& merger,
                                      std::vector<int32_t>& ids) const {
  if (!pattern_) {
    encode_part(text, merger, ids);
    return {};
  }
  TextSplitter splitter(*pattern_, text);
  for (;;) {
    FLEXQ_ASSIGN_OR_RETURN(const std::string_view part, splitter.next());
    if (part.empty()) return {};
    encode_part(part, merger, ids);
  }
}

void ByteLevelEncoder::encode_part(std::string_view part, RankMerger& merger,
                                   std::vector<int32_t>& ids) const {
  if (data_->ignore_merges) {
    const int32_t id = pieces_.find(part);
    if (id >= 0 && is_mergeable(data_->types[static_cast<size_t>(id)])) {
      ids.push_back(id);
      return;
    }
  }
  merger.reserve(part.size());
  for (const char byte : part)
    merger.add_symbol(byte_ids_[static_cast<uint8_t>(byte)], 1);
  merger.merge(part, ids);
}

}  // namespace flexq
