// What a tokenizer consists of, independent of the file it came from, and the bytes that carry it
// in a bundle.
//
// Byte format (one bundle segment; every integer little-endian, nothing aligned, nothing padded):
//
//   offset  type  field
//   0       u32   format version: 1
//   4       u32   kind: 1 = SentencePiece BPE
//   8       u32   flags: bit 0 add_bos, bit 1 add_dummy_prefix, bit 2 remove_extra_whitespaces,
//                 bit 3 byte_fallback, bit 4 escape_whitespaces; all other bits zero
//   12      u32   n_vocab, 1 to 2^20
//   16      i32   bos_id, or -1 when the tokenizer has none
//   20      i32   eos_id, or -1
//   24      i32   unk_id
//   28      i32   pad_id, or -1
//   32      u32   unk_surface_bytes, 0 to 1024
//   36      u32   piece_bytes: the sum of all piece lengths
//   40      f32   score of each piece            (n_vocab entries), finite
//   ..      u16   length of each piece in bytes  (n_vocab entries), 1 to 1024
//   ..      u8    type of each piece             (n_vocab entries), see PieceType
//   ..      u8    the pieces in id order, one after the other  (piece_bytes)
//   ..      u8    unk_surface: the text an unknown token decodes to
//
// The segment ends there; trailing bytes are refused. Equal data give equal bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace flexq {

inline constexpr int32_t kMaxVocabPieces = 1 << 20;
inline constexpr int32_t kMaxVocabPieceBytes = 1024;
inline constexpr std::string_view kSpaceSymbol =
    "\xE2\x96\x81";  // U+2581: how pieces spell a space

enum class TokenizerKind : uint32_t {
  kSentencePieceBpe = 1,
};

// The numbers of SentencePiece's ModelProto.SentencePiece.Type.
enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,      // stands for characters without a piece; exactly one per tokenizer
  kControl = 3,      // <s>, </s>: never produced from plain text, decodes to nothing
  kUserDefined = 4,  // always one token wherever it occurs in a text
  kUnused = 5,       // takes part in merging, but is split again in the result
  kByte = 6,         // "<0x00>" to "<0xFF>": one byte of a character without a piece
};

struct TokenizerData {
  TokenizerKind kind = TokenizerKind::kSentencePieceBpe;

  // Pieces in id order. Written by add_piece() only.
  std::string piece_bytes;           // all pieces, one after the other
  std::vector<uint32_t> piece_ends;  // (n_vocab): where each piece ends in piece_bytes
  std::vector<float> scores;         // (n_vocab): merges with a higher score come first
  std::vector<PieceType> types;      // (n_vocab)

  int32_t bos_id = -1;
  int32_t eos_id = -1;
  int32_t unk_id = -1;
  int32_t pad_id = -1;

  bool add_bos = false;                   // the model expects BOS in front of every text
  bool add_dummy_prefix = true;           // a space is put in front of every text
  bool remove_extra_whitespaces = false;  // strip the text and collapse runs of spaces
  bool byte_fallback = false;             // unknown characters become byte pieces
  bool escape_whitespaces = true;         // spaces are spelled U+2581 inside pieces
  std::string unk_surface = " \xE2\x81\x87 ";

  int32_t n_vocab() const { return static_cast<int32_t>(types.size()); }
  // `id` must be in [0, n_vocab).
  std::string_view piece(int32_t id) const {
    const size_t i = static_cast<size_t>(id);
    const uint32_t begin = i == 0 ? 0 : piece_ends[i - 1];
    return std::string_view(piece_bytes).substr(begin, piece_ends[i] - begin);
  }

  // Appends the next id. kLimitExceeded beyond kMaxVocabPieces pieces or kMaxVocabPieceBytes bytes.
  Status add_piece(std::string_view piece, float score, PieceType type);
};

// Whether the parts fit together: pieces non-empty, valid UTF-8 and distinct; exactly one unknown
// piece, which is unk_id; bos, eos and pad ids that exist and are control pieces (pad may be any
// piece); finite scores; with byte fallback all 256 byte pieces, without it none. Errors are
// kCorrupt (kLimitExceeded for sizes) and name the piece.
Status validate_tokenizer(const TokenizerData& data);

// The byte format above. Fails only where validate_tokenizer() does.
Result<std::vector<uint8_t>> serialize_tokenizer(const TokenizerData& data);

// The inverse of serialize_tokenizer(), for any bytes: what it returns is valid. kCorrupt for
// malformed bytes, kLimitExceeded beyond the limits, kUnsupportedVersion for another version,
// kind or flag.
Result<TokenizerData> parse_tokenizer(std::span<const uint8_t> bytes);

// The byte that a piece "<0x41>" stands for, or -1 when `piece` is not of that form.
int byte_of_piece(std::string_view piece);

}  // namespace flexq
