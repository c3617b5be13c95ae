// Reads bundles. There is one load path and no way to switch its checks off: header against file
// size, hash of header and directory, signature, FlatBuffers Verifier, semantic validation; then
// per chunk its hash, its zstd frame, its values. Any byte sequence is memory-safe to open and
// read.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_source.h"
#include "base/thread_pool.h"
#include "bundle/bundle_directory.h"
#include "bundle/bundle_format.h"
#include "bundle/bundle_header.h"
#include "bundle/chunk_codec.h"
#include "bundle/progress.h"
#include "model/weight_source.h"

namespace flexq {

// An open bundle. Immutable: every method may be called from several threads at once.
class Bundle : public WeightSource {
 public:
  // Reads header and directory and checks all but the chunks; with a required key, that its owner
  // signed them, before anything of the directory is looked at. kCorrupt, kUnsupportedVersion,
  // kLimitExceeded, kSignature, kIo or kOutOfMemory; messages begin with the name of the source.
  static Result<std::unique_ptr<Bundle>> open(
      std::unique_ptr<ByteSource> source, const BundleLimits& limits,
      const std::optional<Ed25519PublicKey>& required_key = std::nullopt);

  const ModelConfig& config() const override { return directory_.config; }
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  int64_t n_pieces(int64_t tensor) const override;
  Status read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer, WeightPiece* out) override;

  bool has_section(std::string_view kind) const;
  // The whole section, decoded. kNotFound when the bundle has none of that kind.
  Result<HostBuffer> read_section(std::string_view kind);

  // Reads and checks every chunk, and so every byte of the file that open() did not.
  Status verify(ThreadPool& pool, const ProgressSink& progress);

  // What inspection shows.
  const std::string& source_name() const { return source_->name(); }
  const BundleHeader& header() const { return header_; }
  // The key whose owner signed the bundle, or null.
  const Ed25519PublicKey* signer() const { return header_.is_signed() ? &header_.key_id : nullptr; }
  int64_t file_bytes() const { return header_.file_bytes; }
  const std::string& policy() const { return directory_.policy; }
  int32_t group_size() const { return directory_.group_size; }
  const BundleProvenance& provenance() const { return directory_.provenance; }
  // Verbatim, or null when the checkpoint had none.
  const std::string* chat_template() const {
    return directory_.chat_template ? &*directory_.chat_template : nullptr;
  }
  const std::vector<SectionEntry>& sections() const { return directory_.sections; }
  // Bytes of a tensor in the file, compressed, without padding.
  int64_t stored_bytes(int64_t tensor) const;
  // Bytes of a tensor decoded: one byte per 6- or 8-bit code, plus scales.
  int64_t decoded_bytes(int64_t tensor) const;
  // 8 * stored bytes / weights of the quantized linear layers; of all linear layers where none is.
  double linear_bits_per_weight() const;

 private:
  Bundle(std::unique_ptr<ByteSource> source, const BundleHeader& header, BundleDirectory directory);

  Status check_segment_padding();
  // Reads, checks and decodes one chunk; `*raw` points into `buffer`.
  Status read_chunk(const ChunkEntry& chunk, PieceBuffer& buffer, std::span<const uint8_t>* raw);
  Status read_section_chunk(int64_t section, int64_t chunk, PieceBuffer& buffer,
                            std::span<const uint8_t>* raw);

  std::unique_ptr<ByteSource> source_;
  BundleHeader header_;
  BundleDirectory directory_;
  std::vector<StoredTensor> tensors_;  // copies out of directory_, for the WeightSource view
  ChunkDecompressor decompressor_;
};

}  // namespace flexq
