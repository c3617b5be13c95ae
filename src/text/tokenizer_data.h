// What a tokenizer consists of, independent of the file it came from. tokenizer_segment.h says how
// a bundle carries it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace flexq {

inline constexpr int32_t kMaxVocabPieces = 1 << 20;
inline constexpr int32_t kMaxVocabPieceBytes = 1024;
inline constexpr std::string_view kSpaceSymbol =
    "\xE2\x96\x81";  // U+2581: how pieces spell a space

inline constexpr int32_t kMaxMerges = 1 << 22;
inline constexpr int32_t kMaxSplitPatternBytes = 4096;

enum class TokenizerKind : uint32_t {
  kSentencePieceBpe = 1,  // characters, merged by the score of the union (LLaMA-1 and 2)
  kByteLevelBpe = 2,      // a pattern cuts the text, bytes are merged by rank (LLaMA-3)
  kCharacterBpe = 3,      // characters, merged by rank: LLaMA-2 in the form of tokenizer.json
};

// The numbers of SentencePiece's ModelProto.SentencePiece.Type. Byte-level BPE has kNormal,
// kControl and kUserDefined only; character BPE all but kUnused.
enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,      // stands for characters without a piece; exactly one (byte-level: none)
  kControl = 3,      // <s>, </s>: never produced from plain text, decodes to nothing
  kUserDefined = 4,  // always one token wherever it occurs in a text
  kUnused = 5,       // takes part in merging, but is split again in the result
  kByte = 6,         // "<0x00>" to "<0xFF>": one byte of a character without a piece
};

// Two pieces that may become one: the piece that is spelled as both together.
struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  bool operator==(const Merge&) const = default;
};

struct TokenizerData {
  TokenizerKind kind = TokenizerKind::kSentencePieceBpe;

  // Pieces in id order. Written by add_piece() only.
  std::string piece_bytes;           // all pieces, one after the other
  std::vector<uint32_t> piece_ends;  // (n_vocab): where each piece ends in piece_bytes
  std::vector<float> scores;     // (n_vocab): merges with a higher score come first; kinds 2, 3: 0
  std::vector<PieceType> types;  // (n_vocab)

  int32_t bos_id = -1;
  int32_t eos_id = -1;
  int32_t unk_id = -1;
  int32_t pad_id = -1;

  bool add_bos = false;                        // the model expects BOS in front of every text
  bool add_dummy_prefix = true;                // a space is put in front of every text
  bool remove_extra_whitespaces = false;       // strip the text and collapse runs of spaces
  bool byte_fallback = false;                  // unknown characters become byte pieces
  bool escape_whitespaces = true;              // spaces are spelled U+2581 inside pieces
  std::string unk_surface = " \xE2\x81\x87 ";  // kinds 2 and 3: this

  // Byte-level and character BPE.
  std::vector<Merge> merges;   // in order: earlier ones come first
  bool ignore_merges = false;  // what is a piece as it stands is not merged from parts

  // Byte-level BPE. Pieces are bytes, not spelled as characters.
  std::string split_pattern;  // PCRE2 syntax: a text is cut into its matches and what lies between
  bool merge_by_id = false;   // no list of merges: any two neighbours that together are a piece,
                              // the lowest id first (tiktoken)

  // Character BPE.
  bool fuse_unk = false;             // a run of unknown characters is one token
  bool prefix_unless_space = false;  // add_dummy_prefix, but not before a space
  bool prefix_at_start_only =
      false;  // add_dummy_prefix, but not after a control or user-defined piece

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

// Whether the parts fit together: pieces non-empty and distinct, valid UTF-8 (but for those of
// byte-level BPE); bos, eos and pad ids that exist and are control pieces (pad may be any piece);
// finite scores; options that the kind has. SentencePiece and character BPE: exactly one unknown
// piece, which is unk_id; with byte fallback all 256 byte pieces, without it none. Byte-level BPE:
// a piece for every byte, a split pattern that compiles. Merges: of and into normal or user-defined
// pieces, each at most once. Errors are kCorrupt (kLimitExceeded for sizes, those of
// SplitPattern::compile() for the pattern) and name the piece.
Status validate_tokenizer(const TokenizerData& data);

// The byte that a piece "<0x41>" stands for, or -1 when `piece` is not of that form.
int byte_of_piece(std::string_view piece);

}  // namespace flexq
