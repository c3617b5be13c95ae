// A bundle taken apart, so that tests can change one thing, put it together again with correct
// hashes and see validation itself refuse it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "bundle/bundle_directory.h"
#include "bundle/bundle_format.h"
#include "bundle/bundle_header.h"
#include "bundle/bundle_writer.h"

namespace flexq::test {

using Bytes = std::vector<uint8_t>;

// One layer, every weight format, two sections (one stored raw, one compressed): 65,536 bytes.
ModelConfig tiny_config();
BundleContents tiny_contents();  // sections refer to static storage
// Random codes, scales and finite dense values; a function of (tensor, row).
Status produce_random_rows(const BundleContents& contents, const ChunkRequest& request,
                           std::span<uint8_t> raw);
Status write_bundle_at(const std::string& path, const BundleContents& contents,
                       ChunkProducer producer, ThreadPool& pool, const ProgressSink& progress);
Bytes write_to_bytes(const BundleContents& contents, int n_threads = 1);
const Bytes& tiny_bundle();

// open(), verify() on one thread and every section: the whole load.
Status load(std::span<const uint8_t> bytes, const BundleLimits& limits = {});

struct BundleParts {
  BundleHeader header;
  BundleDirectory directory;
  std::vector<Bytes> stored;  // of every chunk, tensors first, in file order

  // Chunk entries in the order of `stored`.
  std::vector<ChunkEntry*> chunks();
  // Sets offsets, stored sizes and hashes from `stored`.
  void place_chunks();
  // The bytes of all segments, at the offsets that place_chunks() gave.
  Bytes segments();
};

BundleParts take_apart(const Bytes& bundle);

// A file of these parts, with a right header and hash. `directory` is the encoded FlatBuffer.
Bytes assemble(const BundleHeader& header, const Bytes& directory, const Bytes& segments);
Bytes assemble(BundleParts& parts);  // with the directory as it is
Bytes encode(const BundleDirectory& directory);

// Writes a right hash into the header again after a change to header or directory bytes.
void rehash(Bytes& bundle);

}  // namespace flexq::test
