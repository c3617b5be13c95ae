#include "text/tokenizer_segment.h"

#include <bit>
#include <string>
#include <string_view>

#include "base/checked.h"
#include "text/tokenizer_flags.h"

namespace flexq {
namespace {

constexpr uint32_t kFormatVersion = 1;
constexpr int64_t kHeaderBytes = 40;
constexpr int64_t kMergeCountBytes = 4;  // behind the header, in kinds 2 and 3
constexpr int64_t kBytesPerMerge = 8;

bool has_scores(TokenizerKind kind) {
  return kind == TokenizerKind::kSentencePieceBpe;
}

// Score, length and type, or length and type.
int64_t bytes_per_piece(TokenizerKind kind) {
  return has_scores(kind) ? 4 + 2 + 1 : 2 + 1;
}

template <typename T>
void put(std::vector<uint8_t>& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

void put_text(std::vector<uint8_t>& out, std::string_view text) {
  out.insert(out.end(), text.begin(), text.end());
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
  int32_t take_id() { return static_cast<int32_t>(take<uint32_t>()); }
  std::string_view take_text(size_t n_bytes) {
    const char* begin = reinterpret_cast<const char*>(at_);
    at_ += n_bytes;
    return {begin, n_bytes};
  }

 private:
  const uint8_t* at_;
};

// What the segment says about its own sizes.
struct SegmentSizes {
  TokenizerKind kind = TokenizerKind::kSentencePieceBpe;
  uint32_t n_vocab = 0;
  uint32_t n_merges = 0;
  uint32_t piece_bytes = 0;
  uint32_t text_bytes = 0;
};

Status check_version(uint32_t version, TokenizerKind kind, uint32_t flags) {
  if (version != kFormatVersion)
    return Status::error(StatusCode::kUnsupportedVersion,
                         "tokenizer segment: format version %u, this reader knows %u", version,
                         kFormatVersion);
  const uint32_t known_flags = flags_of_kind(kind);
  if (known_flags == 0)
    return Status::error(StatusCode::kUnsupportedVersion,
                         "tokenizer segment: kind %u, this reader knows 1 to 3",
                         static_cast<unsigned>(kind));
  if ((flags & ~known_flags) != 0)
    return Status::error(StatusCode::kUnsupportedVersion,
                         "tokenizer segment: flags 0x%X, this reader knows 0x%X for kind %u", flags,
                         known_flags, static_cast<unsigned>(kind));
  return {};
}

// The size is known exactly before anything is allocated or read past the counts.
Status check_size(const SegmentSizes& sizes, size_t n_bytes) {
  const CheckedSize expected = CheckedSize(sizes.n_vocab)
                                   .mul(bytes_per_piece(sizes.kind))
                                   .add(kHeaderBytes)
                                   .add(has_scores(sizes.kind) ? 0 : kMergeCountBytes)
                                   .add(int64_t{sizes.n_merges} * kBytesPerMerge)
                                   .add(sizes.piece_bytes)
                                   .add(sizes.text_bytes);
  if (expected.valid() && static_cast<uint64_t>(expected.value()) == n_bytes) return {};
  return Status::error(StatusCode::kCorrupt, "tokenizer segment: %zu bytes, expected %lld", n_bytes,
                       static_cast<long long>(expected.value()));
}

// The lists behind the counts, whose sizes add up to those of the segment.
Status read_lists(const SegmentSizes& sizes, const uint8_t* begin, TokenizerData& data) {
  const size_t n_vocab = sizes.n_vocab;
  ByteCursor scores(begin);
  ByteCursor lengths(begin + (has_scores(sizes.kind) ? n_vocab * 4 : 0));
  ByteCursor types = lengths;
  types.take_text(n_vocab * 2);
  ByteCursor merges = types;
  merges.take_text(n_vocab);
  ByteCursor pieces = merges;
  pieces.take_text(sizes.n_merges * static_cast<size_t>(kBytesPerMerge));

  data.piece_bytes.reserve(sizes.piece_bytes);
  data.piece_ends.reserve(n_vocab);
  data.scores.reserve(n_vocab);
  data.types.reserve(n_vocab);
  uint32_t bytes_left = sizes.piece_bytes;
  for (uint32_t id = 0; id < sizes.n_vocab; ++id) {
    const uint16_t length = lengths.take<uint16_t>();
    if (length > bytes_left)
      return Status::error(StatusCode::kCorrupt,
                           "tokenizer segment: piece %u has %u bytes, %u are left", id,
                           unsigned{length}, bytes_left);
    bytes_left -= length;
    const float score =
        has_scores(sizes.kind) ? std::bit_cast<float>(scores.take<uint32_t>()) : 0.0f;
    const PieceType type = static_cast<PieceType>(types.take<uint8_t>());
    FLEXQ_RETURN_IF_ERROR(data.add_piece(pieces.take_text(length), score, type));
  }
  if (bytes_left != 0)
    return Status::error(StatusCode::kCorrupt, "tokenizer segment: %u bytes after the last piece",
                         bytes_left);
  data.merges.resize(sizes.n_merges);
  for (Merge& merge : data.merges) {
    merge.left = merges.take_id();
    merge.right = merges.take_id();
  }
  (has_scores(sizes.kind) ? data.unk_surface : data.split_pattern) =
      std::string(pieces.take_text(sizes.text_bytes));
  return {};
}

}  // namespace

Result<std::vector<uint8_t>> serialize_tokenizer(const TokenizerData& data) {
  FLEXQ_RETURN_IF_ERROR(validate_tokenizer(data));
  const std::string& text = has_scores(data.kind) ? data.unk_surface : data.split_pattern;
  std::vector<uint8_t> out;
  out.reserve(static_cast<size_t>(kHeaderBytes + kMergeCountBytes) +
              data.types.size() * static_cast<size_t>(bytes_per_piece(data.kind)) +
              data.merges.size() * static_cast<size_t>(kBytesPerMerge) + data.piece_bytes.size() +
              text.size());
  put(out, kFormatVersion);
  put(out, static_cast<uint32_t>(data.kind));
  put(out, flags_of(data));
  put(out, static_cast<uint32_t>(data.n_vocab()));
  for (const int32_t id : {data.bos_id, data.eos_id, data.unk_id, data.pad_id})
    put(out, static_cast<uint32_t>(id));
  put(out, static_cast<uint32_t>(text.size()));
  put(out, static_cast<uint32_t>(data.piece_bytes.size()));
  if (has_scores(data.kind)) {
    for (const float score : data.scores)
      put(out, std::bit_cast<uint32_t>(score));
  } else {
    put(out, static_cast<uint32_t>(data.merges.size()));
  }
  for (int32_t id = 0; id < data.n_vocab(); ++id)
    put(out, static_cast<uint16_t>(data.piece(id).size()));
  for (const PieceType type : data.types)
    put(out, static_cast<uint8_t>(type));
  for (const Merge& merge : data.merges) {
    put(out, static_cast<uint32_t>(merge.left));
    put(out, static_cast<uint32_t>(merge.right));
  }
  put_text(out, data.piece_bytes);
  put_text(out, text);
  return out;
}

Result<TokenizerData> parse_tokenizer(std::span<const uint8_t> bytes) {
  if (bytes.size() < static_cast<size_t>(kHeaderBytes))
    return Status::error(StatusCode::kCorrupt,
                         "tokenizer segment: %zu bytes, expected a header of %lld", bytes.size(),
                         static_cast<long long>(kHeaderBytes));
  ByteCursor header(bytes.data());
  const uint32_t version = header.take<uint32_t>();
  TokenizerData data;
  data.kind = static_cast<TokenizerKind>(header.take<uint32_t>());
  const uint32_t flags = header.take<uint32_t>();
  FLEXQ_RETURN_IF_ERROR(check_version(version, data.kind, flags));
  set_flags(data, flags);

  SegmentSizes sizes;
  sizes.kind = data.kind;
  sizes.n_vocab = header.take<uint32_t>();
  for (int32_t* id : {&data.bos_id, &data.eos_id, &data.unk_id, &data.pad_id})
    *id = header.take_id();
  sizes.text_bytes = header.take<uint32_t>();
  sizes.piece_bytes = header.take<uint32_t>();
  if (sizes.n_vocab > static_cast<uint32_t>(kMaxVocabPieces))
    return Status::error(StatusCode::kLimitExceeded,
                         "tokenizer segment: %u pieces, at most %d are supported", sizes.n_vocab,
                         kMaxVocabPieces);
  const uint8_t* lists = bytes.data() + kHeaderBytes;
  if (!has_scores(data.kind)) {
    if (bytes.size() < static_cast<size_t>(kHeaderBytes + kMergeCountBytes))
      return Status::error(StatusCode::kCorrupt,
                           "tokenizer segment: %zu bytes, expected a number of merges at %lld",
                           bytes.size(), static_cast<long long>(kHeaderBytes));
    sizes.n_merges = header.take<uint32_t>();
    lists += kMergeCountBytes;
    if (sizes.n_merges > static_cast<uint32_t>(kMaxMerges))
      return Status::error(StatusCode::kLimitExceeded,
                           "tokenizer segment: %u merges, at most %d are supported", sizes.n_merges,
                           kMaxMerges);
  }
  FLEXQ_RETURN_IF_ERROR(check_size(sizes, bytes.size()));
  FLEXQ_RETURN_IF_ERROR(read_lists(sizes, lists, data));
  FLEXQ_RETURN_IF_ERROR(validate_tokenizer(data));
  return data;
}

}  // namespace flexq
