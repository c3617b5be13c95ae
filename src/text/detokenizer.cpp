#include "text/detokenizer.h"

#include "text/utf8.h"

namespace flexq {

// Follows SentencePieceProcessor::Decode of SentencePiece 0.1.97.
Status Detokenizer::push(int32_t id, std::string& text) {
  const TokenizerData& data = tokenizer_->data();
  if (id < 0 || id >= data.n_vocab())
    return Status::error(StatusCode::kInvalidArgument, "token id %d, expected 0 to %d", id,
                         data.n_vocab() - 1);
  std::string_view bytes = tokenizer_->piece_bytes(id);
  const PieceType type = data.types[static_cast<size_t>(id)];
  const bool is_bytes = type == PieceType::kByte ||
                        (data.kind == TokenizerKind::kByteLevelBpe && type == PieceType::kNormal);
  if (is_bytes) {
    at_start_ = false;
    for (const char byte : bytes)
      push_byte(byte, text);
    return {};
  }
  // Other pieces are whole characters: none can complete one.
  finish(text);
  const bool strips_prefix = data.add_dummy_prefix || data.remove_extra_whitespaces;
  if (at_start_ && strips_prefix && type != PieceType::kUnknown && type != PieceType::kControl &&
      data.piece(id).starts_with(kSpaceSymbol)) {
    bytes.remove_prefix(1);
    // A model that strips its texts has no spaces of its own at the start: drop them all.
    if (!data.remove_extra_whitespaces) at_start_ = false;
  }
  if (!bytes.empty()) at_start_ = false;
  text.append(bytes);
  return {};
}

void Detokenizer::push_byte(char byte, std::string& text) {
  pending_[static_cast<size_t>(n_pending_++)] = byte;
  while (n_pending_ > 0) {
    const std::string_view pending(pending_.data(), static_cast<size_t>(n_pending_));
    if (is_incomplete_character(pending)) return;
    const int n_valid = valid_character_bytes(pending);
    const int n_done = n_valid > 0 ? n_valid : 1;
    text.append(n_valid > 0 ? pending.substr(0, static_cast<size_t>(n_valid))
                            : kReplacementCharacter);
    for (int i = n_done; i < n_pending_; ++i)
      pending_[static_cast<size_t>(i - n_done)] = pending_[static_cast<size_t>(i)];
    n_pending_ -= n_done;
  }
}

void Detokenizer::finish(std::string& text) {
  for (; n_pending_ > 0; --n_pending_)
    text.append(kReplacementCharacter);
}

}  // namespace flexq
