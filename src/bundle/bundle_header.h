// The fixed 256 bytes in front of every bundle (layout in schema/FORMAT.md).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "base/ed25519.h"
#include "base/sha256.h"
#include "base/status.h"
#include "bundle/bundle_format.h"

namespace flexq {

struct BundleHeader {
  uint16_t format_version = kBundleFormatVersion;
  uint16_t min_reader_version = kBundleFormatVersion;
  int64_t directory_bytes = 0;
  int64_t segment_base = 0;  // align_up(256 + directory_bytes, 4096)
  int64_t file_bytes = 0;
  Sha256Digest sha256{};  // of header bytes 0-63, then the directory
  Ed25519Signature signature{};
  Ed25519PublicKey key_id{};

  // An unsigned bundle has zeros in both places.
  bool is_signed() const;
};

using HeaderBytes = std::array<uint8_t, kBundleHeaderBytes>;

// Where segments begin behind a directory of that size.
int64_t segment_base_for(int64_t directory_bytes);

// Writes the header and computes its hash over itself and `directory`. Unsigned, whatever `header`
// says: a signature can only be made of the hash.
HeaderBytes encode_header(const BundleHeader& header, std::span<const uint8_t> directory);

// Checks everything that the header alone and the size of the file can tell: magic, versions,
// sizes, zero bytes. kCorrupt, kLimitExceeded, or kUnsupportedVersion for a newer format.
Result<BundleHeader> parse_header(std::span<const uint8_t> bytes, int64_t file_bytes,
                                  const std::string& source);

// Puts a signature and its key into a header's bytes.
void place_signature(std::span<uint8_t> header_bytes, const Ed25519Signature& signature,
                     const Ed25519PublicKey& key_id);

// The hash that `header_bytes` must carry in front of that directory.
Sha256Digest directory_hash(std::span<const uint8_t> header_bytes,
                            std::span<const uint8_t> directory);

// True when every byte is zero.
bool all_zero(std::span<const uint8_t> bytes);

}  // namespace flexq
