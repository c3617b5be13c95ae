#include "runtime/session_header.h"

#include <algorithm>

#include "base/checked.h"
#include "base/little_endian.h"
#include "bundle/bundle_header.h"
#include "model/model_config.h"

namespace flexq {
namespace {

// Byte positions of the fields; integers are little-endian.
constexpr size_t kFormatVersionAt = 6;
constexpr size_t kMinReaderVersionAt = 8;
constexpr size_t kFlagsAt = 10;
constexpr size_t kHeaderBytesAt = 12;
constexpr size_t kFileBytesAt = 16;
constexpr size_t kTokensAt = 24;
constexpr size_t kKvTypeAt = 28;
constexpr size_t kLayersAt = 32;
constexpr size_t kKvHeadsAt = 36;
constexpr size_t kHeadDimAt = 40;
constexpr size_t kVocabAt = 44;
constexpr size_t kNoteBytesAt = 48;
constexpr size_t kBlockTokensAt = 56;
constexpr size_t kFieldsEnd = 60;
constexpr size_t kModelAt = 64;
constexpr size_t kHashedBytes = 96;  // the hash covers the header up to here
constexpr size_t kSha256At = 96;
constexpr size_t kSha256End = 128;
constexpr auto kMaxKvType = static_cast<int64_t>(KvType::kI8);

Status check_version(const SessionHeader& header, const std::string& source) {
  if (header.min_reader_version > kSessionFormatVersion)
    return Status::error(StatusCode::kUnsupportedVersion,
                         "%s: session of format %d needs a reader of format %d, this is format %d",
                         source.c_str(), int{header.format_version}, int{header.min_reader_version},
                         int{kSessionFormatVersion});
  if (header.min_reader_version < 1 || header.format_version < header.min_reader_version)
    return Status::error(StatusCode::kCorrupt,
                         "%s: format version %d with minimum reader version %d, expected 1 <= "
                         "minimum <= format",
                         source.c_str(), int{header.format_version},
                         int{header.min_reader_version});
  return {};
}

Status check_equal(const char* field, int64_t found, int64_t expected, const std::string& source) {
  if (found == expected) return {};
  return Status::error(StatusCode::kCorrupt, "%s: header says %s %lld, expected %lld",
                       source.c_str(), field, static_cast<long long>(found),
                       static_cast<long long>(expected));
}

Status check_range(const char* field, int64_t found, int64_t low, int64_t high,
                   const std::string& source) {
  if (found >= low && found <= high) return {};
  return Status::error(found < low ? StatusCode::kCorrupt : StatusCode::kLimitExceeded,
                       "%s: header says %s %lld, expected %lld to %lld", source.c_str(), field,
                       static_cast<long long>(found), static_cast<long long>(low),
                       static_cast<long long>(high));
}

// Enough of a hash for a person to tell two models apart.
std::string short_name(const Sha256Digest& hash) {
  constexpr char kDigits[] = "0123456789abcdef";
  constexpr size_t kShownBytes = 8;
  std::string name;
  for (size_t i = 0; i < kShownBytes; ++i) {
    name += kDigits[hash[i] >> 4];
    name += kDigits[hash[i] & 15];
  }
  return name;
}

const char* kv_type_name(KvType type) {
  return type == KvType::kF16 ? "f16" : type == KvType::kF32 ? "f32" : "i8";
}

}  // namespace

SessionLayout session_layout(const SessionHeader& header) {
  // Sizes that overflow have the value -1, which no file has.
  const int64_t n_blocks = ceil_div(header.n_tokens, kSessionBlockTokens);
  const int64_t scale_bytes = header.kv_type == KvType::kI8 ? 2 : 0;
  const CheckedSize head_bytes =
      CheckedSize(header.head_dim).mul(kv_element_bytes(header.kv_type)).add(scale_bytes);
  const CheckedSize token_bytes =
      CheckedSize(head_bytes.value()).mul(2).mul(header.n_layers).mul(header.n_kv_heads);
  const CheckedSize tokens_end =
      CheckedSize(header.n_tokens).mul(sizeof(int32_t)).add(kSessionHeaderBytes);
  const CheckedSize note_end = CheckedSize(tokens_end).add(header.note_bytes);
  const CheckedSize hashes_end =
      CheckedSize(n_blocks).mul(sizeof(Sha256Digest)).add(note_end.value());
  const CheckedSize blocks_end =
      CheckedSize(token_bytes).mul(header.n_tokens).add(hashes_end.value());
  return {tokens_end.value(), note_end.value(), hashes_end.value(), token_bytes.value(),
          blocks_end.value()};
}

SessionHeaderBytes encode_session_header(const SessionHeader& header) {
  SessionHeaderBytes bytes{};
  std::copy(std::begin(kSessionMagic), std::end(kSessionMagic), bytes.begin());
  store_little_endian<uint16_t>(bytes, kFormatVersionAt, header.format_version);
  store_little_endian<uint16_t>(bytes, kMinReaderVersionAt, header.min_reader_version);
  store_little_endian<uint32_t>(bytes, kHeaderBytesAt, kSessionHeaderBytes);
  store_little_endian<int64_t>(bytes, kFileBytesAt, session_layout(header).file_bytes);
  store_little_endian<int32_t>(bytes, kTokensAt, header.n_tokens);
  store_little_endian<int32_t>(bytes, kKvTypeAt, static_cast<int32_t>(header.kv_type));
  store_little_endian<int32_t>(bytes, kLayersAt, header.n_layers);
  store_little_endian<int32_t>(bytes, kKvHeadsAt, header.n_kv_heads);
  store_little_endian<int32_t>(bytes, kHeadDimAt, header.head_dim);
  store_little_endian<int32_t>(bytes, kVocabAt, header.n_vocab);
  store_little_endian<int64_t>(bytes, kNoteBytesAt, header.note_bytes);
  store_little_endian<int32_t>(bytes, kBlockTokensAt, kSessionBlockTokens);
  std::copy(header.model.begin(), header.model.end(), bytes.begin() + kModelAt);
  return bytes;
}

void put_session_hash(std::span<uint8_t> header_bytes, const Sha256Digest& hash) {
  std::copy(hash.begin(), hash.end(), header_bytes.begin() + kSha256At);
}

Sha256Digest session_hash(std::span<const uint8_t> header_bytes, std::span<const uint8_t> rest) {
  Sha256 hash;
  hash.update(header_bytes.first(kHashedBytes));
  hash.update(rest);
  return hash.finish();
}

Result<SessionHeader> parse_session_header(std::span<const uint8_t> bytes, int64_t file_bytes,
                                           const std::string& source) {
  if (bytes.size() != kSessionHeaderBytes)
    return Status::error(StatusCode::kCorrupt, "%s: %zu bytes, expected at least %lld",
                         source.c_str(), bytes.size(), static_cast<long long>(kSessionHeaderBytes));
  if (!std::equal(std::begin(kSessionMagic), std::end(kSessionMagic), bytes.begin()))
    return Status::error(StatusCode::kCorrupt, "%s: not a FlexQ session (wrong first bytes)",
                         source.c_str());
  SessionHeader header;
  header.format_version = load_little_endian<uint16_t>(bytes, kFormatVersionAt);
  header.min_reader_version = load_little_endian<uint16_t>(bytes, kMinReaderVersionAt);
  FLEXQ_RETURN_IF_ERROR(check_version(header, source));
  FLEXQ_RETURN_IF_ERROR(
      check_equal("flags", load_little_endian<uint16_t>(bytes, kFlagsAt), 0, source));
  FLEXQ_RETURN_IF_ERROR(check_equal("header size",
                                    load_little_endian<uint32_t>(bytes, kHeaderBytesAt),
                                    kSessionHeaderBytes, source));
  FLEXQ_RETURN_IF_ERROR(check_equal("tokens per block",
                                    load_little_endian<int32_t>(bytes, kBlockTokensAt),
                                    kSessionBlockTokens, source));

  const auto kv_type = load_little_endian<int32_t>(bytes, kKvTypeAt);
  header.n_tokens = load_little_endian<int32_t>(bytes, kTokensAt);
  header.n_layers = load_little_endian<int32_t>(bytes, kLayersAt);
  header.n_kv_heads = load_little_endian<int32_t>(bytes, kKvHeadsAt);
  header.head_dim = load_little_endian<int32_t>(bytes, kHeadDimAt);
  header.n_vocab = load_little_endian<int32_t>(bytes, kVocabAt);
  header.note_bytes = load_little_endian<int64_t>(bytes, kNoteBytesAt);
  FLEXQ_RETURN_IF_ERROR(check_range("n_tokens", header.n_tokens, 1, kMaxContext, source));
  FLEXQ_RETURN_IF_ERROR(check_range("kv_type", kv_type, 0, kMaxKvType, source));
  FLEXQ_RETURN_IF_ERROR(check_range("n_layers", header.n_layers, 1, kMaxLayers, source));
  FLEXQ_RETURN_IF_ERROR(check_range("n_kv_heads", header.n_kv_heads, 1, kMaxHeads, source));
  FLEXQ_RETURN_IF_ERROR(check_range("head_dim", header.head_dim, 2, kMaxHeadDim, source));
  FLEXQ_RETURN_IF_ERROR(check_range("n_vocab", header.n_vocab, 1, kMaxVocab, source));
  FLEXQ_RETURN_IF_ERROR(
      check_range("note bytes", header.note_bytes, 0, kMaxSessionNoteBytes, source));
  header.kv_type = static_cast<KvType>(kv_type);

  FLEXQ_RETURN_IF_ERROR(check_equal("file size", load_little_endian<int64_t>(bytes, kFileBytesAt),
                                    file_bytes, source));
  // What the header asks for is there, so no size below is larger than the file.
  FLEXQ_RETURN_IF_ERROR(
      check_equal("file size", file_bytes, session_layout(header).file_bytes, source));
  if (!all_zero(bytes.subspan(kFieldsEnd, kModelAt - kFieldsEnd)) ||
      !all_zero(bytes.subspan(kSha256End)))
    return Status::error(StatusCode::kCorrupt, "%s: reserved header bytes are not zero",
                         source.c_str());
  std::copy_n(bytes.begin() + kModelAt, header.model.size(), header.model.begin());
  std::copy_n(bytes.begin() + kSha256At, header.sha256.size(), header.sha256.begin());
  return header;
}

Status check_session_matches(const SessionHeader& found, const SessionHeader& expected,
                             const std::string& source) {
  if (found.model != expected.model)
    return Status::error(StatusCode::kUnsupportedModel,
                         "%s: expected a session of the loaded model (%s), found one of another "
                         "(%s)",
                         source.c_str(), short_name(expected.model).c_str(),
                         short_name(found.model).c_str());
  if (found.kv_type != expected.kv_type)
    return Status::error(StatusCode::kUnsupportedValue,
                         "%s: expected keys and values of the context's kv_type %s, found %s",
                         source.c_str(), kv_type_name(expected.kv_type),
                         kv_type_name(found.kv_type));
  FLEXQ_RETURN_IF_ERROR(check_equal("n_layers", found.n_layers, expected.n_layers, source));
  FLEXQ_RETURN_IF_ERROR(check_equal("n_kv_heads", found.n_kv_heads, expected.n_kv_heads, source));
  FLEXQ_RETURN_IF_ERROR(check_equal("head_dim", found.head_dim, expected.head_dim, source));
  return check_equal("n_vocab", found.n_vocab, expected.n_vocab, source);
}

}  // namespace flexq
