// validate_tokenizer: see tokenizer_data.h.
#include <bitset>
#include <cmath>

#include "text/merge_table.h"
#include "text/piece_name.h"
#include "text/piece_table.h"
#include "text/split_pattern.h"
#include "text/tokenizer_data.h"
#include "text/tokenizer_flags.h"
#include "text/utf8.h"

namespace flexq {
namespace {

Status check_special_id(const TokenizerData& data, const char* what, int32_t id,
                        bool must_be_control) {
  if (id == -1) return {};
  if (id < 0 || id >= data.n_vocab())
    return Status::error(StatusCode::kCorrupt, "tokenizer: %s id %d, expected -1 or 0 to %d", what,
                         id, data.n_vocab() - 1);
  if (must_be_control && data.types[static_cast<size_t>(id)] != PieceType::kControl)
    return Status::error(StatusCode::kCorrupt,
                         "tokenizer: %s id %d is %s of type %d, expected a control piece", what, id,
                         PieceName(data.piece(id)).c_str(),
                         static_cast<int>(data.types[static_cast<size_t>(id)]));
  return {};
}

Status validate_piece(const TokenizerData& data, int32_t id) {
  const size_t i = static_cast<size_t>(id);
  const uint32_t begin = i == 0 ? 0 : data.piece_ends[i - 1];
  if (data.piece_ends[i] <= begin || data.piece_ends[i] > data.piece_bytes.size())
    return Status::error(StatusCode::kCorrupt, "vocabulary: piece %d is empty", id);
  const std::string_view piece = data.piece(id);
  if (piece.size() > static_cast<size_t>(kMaxVocabPieceBytes))
    return Status::error(StatusCode::kLimitExceeded,
                         "vocabulary: piece %d has %zu bytes, at most %d are supported", id,
                         piece.size(), kMaxVocabPieceBytes);
  const PieceType type = data.types[i];
  const bool is_text = data.kind != TokenizerKind::kByteLevelBpe || type != PieceType::kNormal;
  if (is_text && !is_valid_utf8(piece))
    return Status::error(StatusCode::kCorrupt, "vocabulary: piece %d is not valid UTF-8", id);
  if (!std::isfinite(data.scores[i]))
    return Status::error(StatusCode::kCorrupt,
                         "vocabulary: the score of piece %d, %s, is not "
                         "finite",
                         id, PieceName(piece).c_str());
  if (type < PieceType::kNormal || type > PieceType::kByte)
    return Status::error(StatusCode::kCorrupt,
                         "vocabulary: piece %d, %s, has type %d, expected 1 "
                         "to 6",
                         id, PieceName(piece).c_str(), static_cast<int>(type));
  if (type == PieceType::kUnused && data.kind != TokenizerKind::kSentencePieceBpe)
    return Status::error(StatusCode::kCorrupt,
                         "vocabulary: piece %d, %s, is unused, which only SentencePiece knows", id,
                         PieceName(piece).c_str());
  return {};
}

// SentencePiece and character BPE: the unknown piece and the byte pieces, how many and where.
Status validate_fallbacks(const TokenizerData& data) {
  int32_t unknown_id = -1;
  std::bitset<256> bytes_present;
  for (int32_t id = 0; id < data.n_vocab(); ++id) {
    const PieceType type = data.types[static_cast<size_t>(id)];
    if (type == PieceType::kUnknown) {
      if (unknown_id >= 0)
        return Status::error(StatusCode::kCorrupt,
                             "vocabulary: pieces %d and %d both stand for unknown text, expected "
                             "one",
                             unknown_id, id);
      unknown_id = id;
    } else if (type == PieceType::kByte) {
      const int byte = byte_of_piece(data.piece(id));
      if (byte < 0)
        return Status::error(StatusCode::kCorrupt,
                             "vocabulary: byte piece %d is %s, expected '<0x00>' to '<0xFF>'", id,
                             PieceName(data.piece(id)).c_str());
      bytes_present.set(static_cast<size_t>(byte));
    }
  }
  if (unknown_id < 0 || data.unk_id != unknown_id)
    return Status::error(StatusCode::kCorrupt,
                         "tokenizer: unknown id %d, but the vocabulary's unknown piece is %d",
                         data.unk_id, unknown_id);
  if (data.byte_fallback && !bytes_present.all()) {
    int missing = 0;
    while (bytes_present.test(static_cast<size_t>(missing)))
      ++missing;
    return Status::error(StatusCode::kCorrupt,
                         "vocabulary: byte fallback needs 256 byte pieces, found %d; '<0x%02X>' is "
                         "missing",
                         static_cast<int>(bytes_present.count()), missing);
  }
  if (!data.byte_fallback && bytes_present.any())
    return Status::error(StatusCode::kCorrupt,
                         "vocabulary: %d byte pieces in a tokenizer without byte fallback",
                         static_cast<int>(bytes_present.count()));
  return {};
}

// Byte-level BPE: its piece types, and a piece for every byte, so that any text can be encoded.
Status validate_bytes(const TokenizerData& data) {
  std::bitset<256> bytes_present;
  for (int32_t id = 0; id < data.n_vocab(); ++id) {
    const std::string_view piece = data.piece(id);
    switch (data.types[static_cast<size_t>(id)]) {
      case PieceType::kNormal:
      case PieceType::kUserDefined:
        if (piece.size() == 1) bytes_present.set(static_cast<uint8_t>(piece[0]));
        break;
      case PieceType::kControl:
        break;
      default:
        return Status::error(StatusCode::kCorrupt,
                             "vocabulary: piece %d, %s, has type %d, which byte-level BPE has not",
                             id, PieceName(piece).c_str(),
                             static_cast<int>(data.types[static_cast<size_t>(id)]));
    }
  }
  if (data.unk_id != -1)
    return Status::error(StatusCode::kCorrupt,
                         "tokenizer: unknown id %d, but byte-level BPE has no unknown piece",
                         data.unk_id);
  if (bytes_present.all()) return {};
  int missing = 0;
  while (bytes_present.test(static_cast<size_t>(missing)))
    ++missing;
  return Status::error(StatusCode::kCorrupt,
                       "vocabulary: byte-level BPE needs a piece for each of 256 bytes, found %d; "
                       "byte 0x%02X is missing",
                       static_cast<int>(bytes_present.count()), missing);
}

// Options and lists that only other kinds have would be lost in a bundle.
Status validate_options(const TokenizerData& data) {
  const uint32_t foreign = flags_of(data) & ~flags_of_kind(data.kind);
  if (foreign != 0)
    return Status::error(StatusCode::kCorrupt, "tokenizer: kind %u does not have the options 0x%X",
                         static_cast<unsigned>(data.kind), foreign);
  if (data.kind == TokenizerKind::kCharacterBpe && !data.escape_whitespaces)
    return Status::error(StatusCode::kCorrupt,
                         "tokenizer: character BPE spells spaces U+2581, but the option is off");
  const bool has_pattern = !data.split_pattern.empty();
  if (has_pattern && data.kind != TokenizerKind::kByteLevelBpe)
    return Status::error(StatusCode::kCorrupt, "tokenizer: kind %u does not split texts",
                         static_cast<unsigned>(data.kind));
  if (has_pattern) FLEXQ_RETURN_IF_ERROR(SplitPattern::compile(data.split_pattern).status());
  const bool has_list = data.kind != TokenizerKind::kSentencePieceBpe && !data.merge_by_id;
  if (!has_list && !data.merges.empty())
    return Status::error(StatusCode::kCorrupt,
                         "tokenizer: %zu merges in a tokenizer without a list of them",
                         data.merges.size());
  if (data.merges.size() > static_cast<size_t>(kMaxMerges))
    return Status::error(StatusCode::kLimitExceeded,
                         "tokenizer: %zu merges, at most %d are supported", data.merges.size(),
                         kMaxMerges);
  return {};
}

bool is_known(TokenizerKind kind) {
  return kind == TokenizerKind::kSentencePieceBpe || kind == TokenizerKind::kByteLevelBpe ||
         kind == TokenizerKind::kCharacterBpe;
}

}  // namespace

Status validate_tokenizer(const TokenizerData& data) {
  const size_t n_vocab = data.types.size();
  if (n_vocab > static_cast<size_t>(kMaxVocabPieces))
    return Status::error(StatusCode::kLimitExceeded,
                         "vocabulary: %zu pieces, at most %d are supported", n_vocab,
                         kMaxVocabPieces);
  if (n_vocab == 0 || data.piece_ends.size() != n_vocab || data.scores.size() != n_vocab ||
      data.piece_ends.back() != data.piece_bytes.size())
    return Status::error(StatusCode::kCorrupt,
                         "vocabulary: %zu types, %zu scores and %zu pieces, expected as many of "
                         "each and at least 1",
                         n_vocab, data.scores.size(), data.piece_ends.size());
  if (data.unk_surface.size() > static_cast<size_t>(kMaxVocabPieceBytes) ||
      !is_valid_utf8(data.unk_surface))
    return Status::error(StatusCode::kCorrupt,
                         "tokenizer: the text for unknown tokens has %zu bytes, expected at most "
                         "%d of valid UTF-8",
                         data.unk_surface.size(), kMaxVocabPieceBytes);
  if (!is_known(data.kind))
    return Status::error(StatusCode::kUnsupportedVersion, "tokenizer: kind %u is not known",
                         static_cast<unsigned>(data.kind));
  for (int32_t id = 0; id < data.n_vocab(); ++id)
    FLEXQ_RETURN_IF_ERROR(validate_piece(data, id));
  FLEXQ_RETURN_IF_ERROR(data.kind == TokenizerKind::kByteLevelBpe ? validate_bytes(data)
                                                                  : validate_fallbacks(data));
  FLEXQ_RETURN_IF_ERROR(validate_options(data));
  FLEXQ_RETURN_IF_ERROR(check_special_id(data, "BOS", data.bos_id, true));
  FLEXQ_RETURN_IF_ERROR(check_special_id(data, "EOS", data.eos_id, true));
  FLEXQ_RETURN_IF_ERROR(check_special_id(data, "padding", data.pad_id, false));
  if (data.add_bos && data.bos_id < 0)
    return Status::error(StatusCode::kCorrupt, "tokenizer: adds BOS but has no BOS piece");
  FLEXQ_ASSIGN_OR_RETURN(const PieceTable pieces, PieceTable::build(data));  // finds duplicates
  return MergeTable::build(data, pieces).status();
}

}  // namespace flexq
