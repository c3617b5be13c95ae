#include "text/tokenizer_data.h"

namespace flexq {

Status TokenizerData::add_piece(std::string_view piece, float score, PieceType type) {
  if (n_vocab() >= kMaxVocabPieces)
    return Status::error(StatusCode::kLimitExceeded,
                         "vocabulary: more than %d pieces are not supported", kMaxVocabPieces);
  if (piece.size() > static_cast<size_t>(kMaxVocabPieceBytes))
    return Status::error(StatusCode::kLimitExceeded,
                         "vocabulary: piece %d has %zu bytes, at most %d are supported", n_vocab(),
                         piece.size(), kMaxVocabPieceBytes);
  piece_bytes.append(piece);
  piece_ends.push_back(static_cast<uint32_t>(piece_bytes.size()));
  scores.push_back(score);
  types.push_back(type);
  return {};
}

int byte_of_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  const int high = digit(piece[3]);
  const int low = digit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace flexq
