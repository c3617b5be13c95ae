#include "bundle/bundle_header.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"

namespace flexq {
namespace {

// Byte positions of the fields; integers are little-endian.
constexpr size_t kFormatVersionAt = 6;
constexpr size_t kMinReaderVersionAt = 8;
constexpr size_t kFlagsAt = 10;
constexpr size_t kHeaderBytesAt = 12;
constexpr size_t kDirectoryOffsetAt = 16;
constexpr size_t kDirectoryBytesAt = 24;
constexpr size_t kSegmentBaseAt = 32;
constexpr size_t kFileBytesAt = 40;
constexpr size_t kFieldsEnd = 48;
constexpr size_t kHashedBytes = 64;  // the hash covers the header up to here
constexpr size_t kSha256At = 64;
constexpr size_t kSignatureAt = 96;
constexpr size_t kKeyIdAt = 160;
constexpr size_t kSignatureEnd = 192;
constexpr uint64_t kSmallestDirectory = 8;

template <typename T>
void store(HeaderBytes& bytes, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    bytes[at + i] = static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i));
}

template <typename T>
T load(std::span<const uint8_t> bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value |= static_cast<uint64_t>(bytes[at + i]) << (8 * i);
  return static_cast<T>(value);
}

Status check_version(const BundleHeader& header, const std::string& source) {
  if (header.min_reader_version > kBundleFormatVersion)
    return Status::error(StatusCode::kUnsupportedVersion,
                         "%s: bundle of format %d needs a reader of format %d, this is format %d",
                         source.c_str(), int{header.format_version}, int{header.min_reader_version},
                         int{kBundleFormatVersion});
  if (header.min_reader_version < 1 || header.format_version < header.min_reader_version)
    return Status::error(StatusCode::kCorrupt,
                         "%s: format version %d with minimum reader version %d, expected 1 <= "
                         "minimum <= format",
                         source.c_str(), int{header.format_version},
                         int{header.min_reader_version});
  return {};
}

Status check_equal(const char* field, uint64_t found, uint64_t expected,
                   const std::string& source) {
  if (found == expected) return {};
  return Status::error(StatusCode::kCorrupt, "%s: header says %s %llu, expected %llu",
                       source.c_str(), field, static_cast<unsigned long long>(found),
                       static_cast<unsigned long long>(expected));
}

}  // namespace

int64_t segment_base_for(int64_t directory_bytes) {
  return align_up(kBundleHeaderBytes + directory_bytes, kSegmentAlignment);
}

bool all_zero(std::span<const uint8_t> bytes) {
  // The first byte is zero, and every other one equals the one before it.
  return bytes.empty() ||
         (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

bool BundleHeader::is_signed() const {
  return !all_zero(signature) || !all_zero(key_id);
}

void place_signature(std::span<uint8_t> header_bytes, const Ed25519Signature& signature,
                     const Ed25519PublicKey& key_id) {
  std::copy(signature.begin(), signature.end(), header_bytes.begin() + kSignatureAt);
  std::copy(key_id.begin(), key_id.end(), header_bytes.begin() + kKeyIdAt);
}

Sha256Digest directory_hash(std::span<const uint8_t> header_bytes,
                            std::span<const uint8_t> directory) {
  Sha256 hash;
  hash.update(header_bytes.first(kHashedBytes));
  hash.update(directory);
  return hash.finish();
}

HeaderBytes encode_header(const BundleHeader& header, std::span<const uint8_t> directory) {
  HeaderBytes bytes{};
  std::copy(std::begin(kBundleMagic), std::end(kBundleMagic), bytes.begin());
  store<uint16_t>(bytes, kFormatVersionAt, header.format_version);
  store<uint16_t>(bytes, kMinReaderVersionAt, header.min_reader_version);
  store<uint32_t>(bytes, kHeaderBytesAt, kBundleHeaderBytes);
  store<int64_t>(bytes, kDirectoryOffsetAt, kBundleHeaderBytes);
  store<int64_t>(bytes, kDirectoryBytesAt, header.directory_bytes);
  store<int64_t>(bytes, kSegmentBaseAt, header.segment_base);
  store<int64_t>(bytes, kFileBytesAt, header.file_bytes);
  const Sha256Digest digest = directory_hash(bytes, directory);
  std::copy(digest.begin(), digest.end(), bytes.begin() + kSha256At);
  return bytes;
}

Result<BundleHeader> parse_header(std::span<const uint8_t> bytes, int64_t file_bytes,
                                  const std::string& source) {
  if (bytes.size() != kBundleHeaderBytes)
    return Status::error(StatusCode::kCorrupt, "%s: %zu bytes, expected at least %lld",
                         source.c_str(), bytes.size(), static_cast<long long>(kBundleHeaderBytes));
  if (!std::equal(std::begin(kBundleMagic), std::end(kBundleMagic), bytes.begin()))
    return Status::error(StatusCode::kCorrupt, "%s: not a FlexQ bundle (wrong first bytes)",
                         source.c_str());
  BundleHeader header;
  header.format_version = load<uint16_t>(bytes, kFormatVersionAt);
  header.min_reader_version = load<uint16_t>(bytes, kMinReaderVersionAt);
  FLEXQ_RETURN_IF_ERROR(check_version(header, source));

  FLEXQ_RETURN_IF_ERROR(check_equal("flags", load<uint16_t>(bytes, kFlagsAt), 0, source));
  FLEXQ_RETURN_IF_ERROR(check_equal("header size", load<uint32_t>(bytes, kHeaderBytesAt),
                                    kBundleHeaderBytes, source));
  FLEXQ_RETURN_IF_ERROR(check_equal("directory offset", load<uint64_t>(bytes, kDirectoryOffsetAt),
                                    kBundleHeaderBytes, source));
  FLEXQ_RETURN_IF_ERROR(check_equal("file size", load<uint64_t>(bytes, kFileBytesAt),
                                    static_cast<uint64_t>(file_bytes), source));
  const uint64_t directory_bytes = load<uint64_t>(bytes, kDirectoryBytesAt);
  if (directory_bytes > kMaxDirectoryBytes)
    return Status::error(StatusCode::kLimitExceeded,
                         "%s: directory of %llu bytes, expected at most %lld", source.c_str(),
                         static_cast<unsigned long long>(directory_bytes),
                         static_cast<long long>(kMaxDirectoryBytes));
  if (directory_bytes < kSmallestDirectory)
    return Status::error(StatusCode::kCorrupt,
                         "%s: directory of %llu bytes, expected at least %llu", source.c_str(),
                         static_cast<unsigned long long>(directory_bytes),
                         static_cast<unsigned long long>(kSmallestDirectory));
  header.directory_bytes = static_cast<int64_t>(directory_bytes);
  header.segment_base = segment_base_for(header.directory_bytes);
  FLEXQ_RETURN_IF_ERROR(check_equal("segment base", load<uint64_t>(bytes, kSegmentBaseAt),
                                    static_cast<uint64_t>(header.segment_base), source));
  header.file_bytes = file_bytes;
  if (header.segment_base > file_bytes)
    return Status::error(StatusCode::kCorrupt,
                         "%s: segments begin at %lld but the file ends at %lld", source.c_str(),
                         static_cast<long long>(header.segment_base),
                         static_cast<long long>(file_bytes));
  std::copy_n(bytes.begin() + kSha256At, header.sha256.size(), header.sha256.begin());
  std::copy_n(bytes.begin() + kSignatureAt, header.signature.size(), header.signature.begin());
  std::copy_n(bytes.begin() + kKeyIdAt, header.key_id.size(), header.key_id.begin());

  if (!all_zero(bytes.subspan(kFieldsEnd, kHashedBytes - kFieldsEnd)) ||
      !all_zero(bytes.subspan(kSignatureEnd)))
    return Status::error(StatusCode::kCorrupt, "%s: reserved header bytes are not zero",
                         source.c_str());
  return header;
}

}  // namespace flexq
