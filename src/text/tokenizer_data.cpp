#include "text/tokenizer_data.h"

#include <bit>
#include <bitset>
#include <cmath>

#include "base/checked.h"
#include "text/piece_name.h"
#include "text/piece_table.h"
#include "text/utf8.h"

namespace flexq {
namespace {

constexpr uint32_t kFormatVersion = 1;
constexpr int64_t kHeaderBytes = 40;
constexpr int64_t kBytesPerEntry = 4 + 2 + 1;  // score, length, type

enum Flag : uint32_t {
  kFlagAddBos = 1u << 0,
  kFlagAddDummyPrefix = 1u << 1,
  kFlagRemoveExtraWhitespaces = 1u << 2,
  kFlagByteFallback = 1u << 3,
  kFlagEscapeWhitespaces = 1u << 4,
  kAllFlags = (1u << 5) - 1,
};

template <typename T>
void put(std::vector<uint8_t>& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

// Reads unsigned integers one after the other; the caller has checked that they are there.
class ByteCursor {
 public:
  explicit ByteCursor(const uint8_t* at) : at_(at) {}
  template <typename T>
  T take() {
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i)
      value = static_cast<T>(value | static_cast<T>(static_cast<T>(*at_++) << (8 * i)));
    return value;
  }
  std::string_view take_text(size_t n_bytes) {
    const char* begin = reinterpret_cast<const char*>(at_);
    at_ += n_bytes;
    return {begin, n_bytes};
  }

 private:
  const uint8_t* at_;
};

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
  if (!is_valid_utf8(piece))
    return Status::error(StatusCode::kCorrupt, "vocabulary: piece %d is not valid UTF-8", id);
  if (!std::isfinite(data.scores[i]))
    return Status::error(StatusCode::kCorrupt,
                         "vocabulary: the score of piece %d, %s, is not "
                         "finite",
                         id, PieceName(piece).c_str());
  const PieceType type = data.types[i];
  if (type < PieceType::kNormal || type > PieceType::kByte)
    return Status::error(StatusCode::kCorrupt,
                         "vocabulary: piece %d, %s, has type %d, expected 1 "
                         "to 6",
                         id, PieceName(piece).c_str(), static_cast<int>(type));
  return {};
}

// The unknown piece and the byte pieces: how many there are, and where.
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

uint32_t flags_of(const TokenizerData& data) {
  return (data.add_bos ? kFlagAddBos : 0u) | (data.add_dummy_prefix ? kFlagAddDummyPrefix : 0u) |
         (data.remove_extra_whitespaces ? kFlagRemoveExtraWhitespaces : 0u) |
         (data.byte_fallback ? kFlagByteFallback : 0u) |
         (data.escape_whitespaces ? kFlagEscapeWhitespaces : 0u);
}

void set_flags(TokenizerData& data, uint32_t flags) {
  data.add_bos = (flags & kFlagAddBos) != 0;
  data.add_dummy_prefix = (flags & kFlagAddDummyPrefix) != 0;
  data.remove_extra_whitespaces = (flags & kFlagRemoveExtraWhitespaces) != 0;
  data.byte_fallback = (flags & kFlagByteFallback) != 0;
  data.escape_whitespaces = (flags & kFlagEscapeWhitespaces) != 0;
}

}  // namespace

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
  if (data.kind != TokenizerKind::kSentencePieceBpe)
    return Status::error(StatusCode::kUnsupportedVersion, "tokenizer: kind %u is not known",
                         static_cast<unsigned>(data.kind));
  for (int32_t id = 0; id < data.n_vocab(); ++id)
    FLEXQ_RETURN_IF_ERROR(validate_piece(data, id));
  FLEXQ_RETURN_IF_ERROR(validate_fallbacks(data));
  FLEXQ_RETURN_IF_ERROR(check_special_id(data, "BOS", data.bos_id, true));
  FLEXQ_RETURN_IF_ERROR(check_special_id(data, "EOS", data.eos_id, true));
  FLEXQ_RETURN_IF_ERROR(check_special_id(data, "padding", data.pad_id, false));
  if (data.add_bos && data.bos_id < 0)
    return Status::error(StatusCode::kCorrupt, "tokenizer: adds BOS but has no BOS piece");
  return PieceTable::build(data).status();  // finds duplicates
}

Result<std::vector<uint8_t>> serialize_tokenizer(const TokenizerData& data) {
  FLEXQ_RETURN_IF_ERROR(validate_tokenizer(data));
  std::vector<uint8_t> out;
  out.reserve(static_cast<size_t>(kHeaderBytes) + data.types.size() * kBytesPerEntry +
              data.piece_bytes.size() + data.unk_surface.size());
  put(out, kFormatVersion);
  put(out, static_cast<uint32_t>(data.kind));
  put(out, flags_of(data));
  put(out, static_cast<uint32_t>(data.n_vocab()));
  for (const int32_t id : {data.bos_id, data.eos_id, data.unk_id, data.pad_id})
    put(out, static_cast<uint32_t>(id));
  put(out, static_cast<uint32_t>(data.unk_surface.size()));
  put(out, static_cast<uint32_t>(data.piece_bytes.size()));
  for (const float score : data.scores)
    put(out, std::bit_cast<uint32_t>(score));
  for (int32_t id = 0; id < data.n_vocab(); ++id)
    put(out, static_cast<uint16_t>(data.piece(id).size()));
  for (const PieceType type : data.types)
    put(out, static_cast<uint8_t>(type));
  out.insert(out.end(), data.piece_bytes.begin(), data.piece_bytes.end());
  out.insert(out.end(), data.unk_surface.begin(), data.unk_surface.end());
  return out;
}

Result<TokenizerData> parse_tokenizer(std::span<const uint8_t> bytes) {
  if (bytes.size() < static_cast<size_t>(kHeaderBytes))
    return Status::error(StatusCode::kCorrupt,
                         "tokenizer segment: %zu bytes, expected a header of %lld", bytes.size(),
                         static_cast<long long>(kHeaderBytes));
  ByteCursor header(bytes.data());
  const uint32_t version = header.take<uint32_t>();
  const uint32_t kind = header.take<uint32_t>();
  const uint32_t flags = header.take<uint32_t>();
  const uint32_t n_vocab = header.take<uint32_t>();
  if (version != kFormatVersion)
    return Status::error(StatusCode::kUnsupportedVersion,
                         "tokenizer segment: format version %u, this reader knows %u", version,
                         kFormatVersion);
  if (kind != static_cast<uint32_t>(TokenizerKind::kSentencePieceBpe))
    return Status::error(StatusCode::kUnsupportedVersion,
                         "tokenizer segment: kind %u, this reader knows 1", kind);
  if ((flags & ~static_cast<uint32_t>(kAllFlags)) != 0)
    return Status::error(StatusCode::kUnsupportedVersion,
                         "tokenizer segment: flags 0x%X, this reader knows 0x%X", flags,
                         static_cast<unsigned>(kAllFlags));
  if (n_vocab > static_cast<uint32_t>(kMaxVocabPieces))
    return Status::error(StatusCode::kLimitExceeded,
                         "tokenizer segment: %u pieces, at most %d are supported", n_vocab,
                         kMaxVocabPieces);
  TokenizerData data;
  data.kind = static_cast<TokenizerKind>(kind);
  set_flags(data, flags);
  for (int32_t* id : {&data.bos_id, &data.eos_id, &data.unk_id, &data.pad_id})
    *id = static_cast<int32_t>(header.take<uint32_t>());
  const uint32_t unk_surface_bytes = header.take<uint32_t>();
  const uint32_t piece_bytes = header.take<uint32_t>();

  // The size is known exactly before anything is allocated or read past the header.
  const CheckedSize expected = CheckedSize(n_vocab)
                                   .mul(kBytesPerEntry)
                                   .add(kHeaderBytes)
                                   .add(piece_bytes)
                                   .add(unk_surface_bytes);
  if (!expected.valid() || static_cast<uint64_t>(expected.value()) != bytes.size())
    return Status::error(StatusCode::kCorrupt, "tokenizer segment: %zu bytes, expected %lld",
                         bytes.size(), static_cast<long long>(expected.value()));

  ByteCursor scores(bytes.data() + kHeaderBytes);
  ByteCursor lengths(bytes.data() + kHeaderBytes + n_vocab * size_t{4});
  ByteCursor types(bytes.data() + kHeaderBytes + n_vocab * size_t{6});
  ByteCursor pieces(bytes.data() + kHeaderBytes + n_vocab * size_t{7});
  data.piece_bytes.reserve(piece_bytes);
  data.piece_ends.reserve(n_vocab);
  data.scores.reserve(n_vocab);
  data.types.reserve(n_vocab);
  uint32_t bytes_left = piece_bytes;
  for (uint32_t id = 0; id < n_vocab; ++id) {
    const uint16_t length = lengths.take<uint16_t>();
    if (length > bytes_left)
      return Status::error(StatusCode::kCorrupt,
                           "tokenizer segment: piece %u has %u bytes, %u are left", id,
                           unsigned{length}, bytes_left);
    bytes_left -= length;
    const float score = std::bit_cast<float>(scores.take<uint32_t>());
    const PieceType type = static_cast<PieceType>(types.take<uint8_t>());
    FLEXQ_RETURN_IF_ERROR(data.add_piece(pieces.take_text(length), score, type));
  }
  if (bytes_left != 0)
    return Status::error(StatusCode::kCorrupt, "tokenizer segment: %u bytes after the last piece",
                         bytes_left);
  data.unk_surface = std::string(pieces.take_text(unk_surface_bytes));
  FLEXQ_RETURN_IF_ERROR(validate_tokenizer(data));
  return data;
}

}  // namespace flexq
