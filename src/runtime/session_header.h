// The fixed 256 bytes in front of a saved sequence, and where everything lies behind them
// (schema/SESSION.md).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "base/sha256.h"
#include "base/status.h"
#include "device/device.h"

namespace flexq {

inline constexpr uint8_t kSessionMagic[6] = {'F', 'L', 'E', 'X', 'Q', 'S'};
inline constexpr uint16_t kSessionFormatVersion = 1;  // what we write, and the newest we read
inline constexpr int64_t kSessionHeaderBytes = 256;
inline constexpr int32_t kSessionBlockTokens = 16;  // tokens whose keys and values share a hash
inline constexpr int64_t kMaxSessionNoteBytes = int64_t{64} << 20;

struct SessionHeader {
  uint16_t format_version = kSessionFormatVersion;
  uint16_t min_reader_version = kSessionFormatVersion;
  int32_t n_tokens = 0;
  KvType kv_type = KvType::kF16;
  int32_t n_layers = 0;
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t n_vocab = 0;
  int64_t note_bytes = 0;
  Sha256Digest model{};   // WeightSource::identity()
  Sha256Digest sha256{};  // see session_hash()
};

// Behind the header: tokens, note and block hashes, which are the front with it; then the blocks.
struct SessionLayout {
  int64_t note_begin = 0;
  int64_t hashes_begin = 0;
  int64_t blocks_begin = 0;
  int64_t token_bytes = 0;  // keys and values of one token
  int64_t file_bytes = 0;
};
SessionLayout session_layout(const SessionHeader& header);

using SessionHeaderBytes = std::array<uint8_t, kSessionHeaderBytes>;

// Without the hash, for which there is a place.
SessionHeaderBytes encode_session_header(const SessionHeader& header);
void put_session_hash(std::span<uint8_t> header_bytes, const Sha256Digest& hash);

// Of the header's fields and of what is behind it up to the blocks, whose hashes are there: so of
// every byte.
Sha256Digest session_hash(std::span<const uint8_t> header_bytes, std::span<const uint8_t> rest);

// Checks everything that the header alone and the size of the file can tell. kCorrupt,
// kLimitExceeded, or kUnsupportedVersion for a newer format; messages begin with `source`.
Result<SessionHeader> parse_session_header(std::span<const uint8_t> bytes, int64_t file_bytes,
                                           const std::string& source);

// Whether a session of `found` can go on where `expected` would be saved: the same model
// (kUnsupportedModel), storage type (kUnsupportedValue) and dimensions (kCorrupt).
Status check_session_matches(const SessionHeader& found, const SessionHeader& expected,
                             const std::string& source);

}  // namespace flexq
