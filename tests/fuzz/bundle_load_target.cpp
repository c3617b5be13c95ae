// A whole bundle, loaded and run for two tokens. An input is
//   u8   bit 0: the chunks below are decoded, and compressed here where the directory says so; else
//        they are as stored
//        bit 1: the bundle is signed, and its key required
//   u32  bytes of the directory, little-endian
//   the directory, then its chunks, one after the other, without padding
// Offsets, stored sizes and hashes are made right, so that mutations reach what lies behind them:
// frames, values, tokenizers, the model.
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "bundle/bundle_header.h"
#include "fuzz/bundle_use.h"
#include "support/c_handles.h"

namespace flexq::test {
namespace {

std::vector<uint8_t> compressed(FuzzInput raw) {
  std::vector<uint8_t> stored(ZSTD_compressBound(raw.size()));
  const size_t n = ZSTD_compress(stored.data(), stored.size(), raw.data(), raw.size(), 1);
  FUZZ_REQUIRE(ZSTD_isError(n) == 0, ZSTD_getErrorName(n));
  stored.resize(n);
  return stored;
}

// The file that the input stands for; empty when its directory does not decode.
std::vector<uint8_t> file_of(FuzzInput input, bool compress) {
  uint32_t directory_bytes = 0;
  if (input.size() < sizeof directory_bytes) return {};
  std::memcpy(&directory_bytes, input.data(), sizeof directory_bytes);
  input = input.subspan(sizeof directory_bytes);
  if (directory_bytes > input.size()) return {};
  // A copy: the directory must be aligned.
  const auto directory_begin = input.begin();
  const std::vector<uint8_t> stored_directory(directory_begin, directory_begin + directory_bytes);
  auto directory = decode_directory(stored_directory, "input");
  if (!directory.ok()) return {};
  input = input.subspan(directory_bytes);

  std::vector<uint8_t> segments;
  const auto place = [&](std::vector<ChunkEntry>& chunks) {
    segments.resize(static_cast<size_t>(align_up(std::ssize(segments), kSegmentAlignment)));
    for (ChunkEntry& chunk : chunks) {
      segments.resize(static_cast<size_t>(align_up(std::ssize(segments), kChunkAlignment)));
      const int64_t wanted = compress ? chunk.raw_bytes : chunk.stored_bytes;
      const auto bytes =
          input.first(static_cast<size_t>(std::clamp<int64_t>(wanted, 0, std::ssize(input))));
      input = input.subspan(bytes.size());
      std::vector<uint8_t> stored(bytes.begin(), bytes.end());
      if (compress && chunk.codec == ChunkCodec::kZstd) {
        stored = compressed(bytes);
        if (stored.size() > bytes.size()) {
          chunk.codec = ChunkCodec::kRaw;
          stored.assign(bytes.begin(), bytes.end());
        }
      }
      chunk.offset = std::ssize(segments);
      chunk.stored_bytes = std::ssize(stored);
      chunk.sha256 = sha256(stored);
      segments.insert(segments.end(), stored.begin(), stored.end());
    }
  };
  for (TensorEntry& tensor : directory->tensors)
    place(tensor.chunks);
  for (SectionEntry& section : directory->sections)
    place(section.chunks);
  segments.resize(static_cast<size_t>(align_up(std::ssize(segments), kSegmentAlignment)));

  const auto encoded = encode_directory(*directory);
  if (!accepted(encoded.status())) return {};
  const int64_t segment_base = segment_base_for(std::ssize(*encoded));
  std::vector<uint8_t> file = sealed_front(*encoded, segment_base + std::ssize(segments));
  file.insert(file.end(), segments.begin(), segments.end());
  return file;
}

}  // namespace

bool fuzz_bundle_load(FuzzInput input) {
  const uint8_t mode = take_byte(input);
  const bool is_signed = (mode & 2) != 0;
  std::vector<uint8_t> file = file_of(input, (mode & 1) != 0);
  if (file.empty()) return false;
  if (is_signed) sign_front(file);
  SourceHandle source;
  FUZZ_REQUIRE(create(source, flexq_source_from_memory, file.data(), std::ssize(file)) == FLEXQ_OK,
               flexq_last_error());
  if (is_signed) require_test_key(source.get());
  return load_bundle_and_generate(source.get());
}

}  // namespace flexq::test
