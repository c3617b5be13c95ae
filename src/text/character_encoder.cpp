#include "text/character_encoder.h"

#include "text/rank_merger.h"
#include "text/utf8.h"

namespace flexq {

Result<std::unique_ptr<const TextEncoder>> CharacterEncoder::create(const TokenizerData& data) {
  FLEXQ_ASSIGN_OR_RETURN(PieceTable pieces, PieceTable::build(data));
  FLEXQ_ASSIGN_OR_RETURN(MergeTable merges, MergeTable::build(data, pieces));
  return std::unique_ptr<const TextEncoder>(
      new CharacterEncoder(data, std::move(pieces), std::move(merges)));
}

CharacterEncoder::CharacterEncoder(const TokenizerData& data, PieceTable pieces, MergeTable merges)
    : data_(&data),
      pieces_(std::move(pieces)),
      merges_(std::move(merges)),
      user_defined_(data, PieceType::kUserDefined) {
  for (int32_t id = 0; id < data.n_vocab(); ++id) {
    if (data.types[static_cast<size_t>(id)] != PieceType::kByte) continue;
    byte_ids_[static_cast<size_t>(byte_of_piece(data.piece(id)))] = id;
  }
}

Status CharacterEncoder::encode(std::string_view text, bool at_start, std::vector<int32_t>& ids,
                                EncodeCounters& counters) const {
  RankMerger merger(*data_, pieces_, merges_, counters);
  for (size_t at = 0; at < text.size() && !user_defined_.empty();) {
    const int32_t id = user_defined_.longest_match(text.substr(at));
    if (id < 0) {
      ++at;
      continue;
    }
    encode_plain(text.substr(0, at), at_start, merger, ids);
    ids.push_back(id);
    text.remove_prefix(at + data_->piece(id).size());
    at = 0;
    at_start = false;
  }
  encode_plain(text, at_start, merger, ids);
  return {};
}

// Puts the prefix in front and spells spaces as U+2581, invalid bytes as U+FFFD.
std::string CharacterEncoder::normalize(std::string_view text, bool at_start) const {
  std::string normalized;
  normalized.reserve(text.size() + text.size() / 4 + kSpaceSymbol.size());
  const bool begins_with_space = text.starts_with(' ') || text.starts_with(kSpaceSymbol);
  if (data_->add_dummy_prefix && (at_start || !data_->prefix_at_start_only) &&
      !(begins_with_space && data_->prefix_unless_space))
    normalized.append(kSpaceSymbol);
  while (!text.empty()) {
    const int n_bytes = valid_character_bytes(text);
    if (n_bytes == 0)
      normalized.append(kReplacementCharacter);
    else if (text[0] == ' ')
      normalized.append(kSpaceSymbol);
    else
      normalized.append(text.substr(0, static_cast<size_t>(n_bytes)));
    text.remove_prefix(n_bytes == 0 ? 1 : static_cast<size_t>(n_bytes));
  }
  return normalized;
}

// A text without user-defined pieces.
void CharacterEncoder::encode_plain(std::string_view text, bool at_start, RankMerger& merger,
                                    std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  const std::string normalized = normalize(text, at_start);
  if (data_->ignore_merges) {
    const int32_t id = pieces_.find(normalized);
    if (id >= 0 && is_mergeable(data_->types[static_cast<size_t>(id)])) {
      ids.push_back(id);
      return;
    }
  }
  merger.reserve(normalized.size());  // no symbol has less than a byte
  uint32_t n_unknown_bytes = 0;       // of a run that becomes one token
  for (std::string_view rest = normalized; !rest.empty();) {
    const auto n_bytes = static_cast<uint32_t>(valid_character_bytes(rest));
    const std::string_view character = rest.substr(0, n_bytes);
    rest.remove_prefix(n_bytes);
    const int32_t id = pieces_.find(character);
    const bool is_known = id >= 0 && is_mergeable(data_->types[static_cast<size_t>(id)]);
    if (!is_known && !data_->byte_fallback && data_->fuse_unk) {
      n_unknown_bytes += n_bytes;
      continue;
    }
    if (n_unknown_bytes > 0) merger.add_symbol(data_->unk_id, n_unknown_bytes);
    n_unknown_bytes = 0;
    if (is_known) {
      merger.add_symbol(id, n_bytes);
    } else if (data_->byte_fallback) {
      for (const char byte : character)
        merger.add_symbol(byte_ids_[static_cast<uint8_t>(byte)], 1);
    } else {
      merger.add_symbol(data_->unk_id, n_bytes);
    }
  }
  if (n_unknown_bytes > 0) merger.add_symbol(data_->unk_id, n_unknown_bytes);
  merger.merge(normalized, ids);
}

}  // namespace flexq
