// Writes bundles: streams chunks to an AtomicFile, then the directory and header in front of them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/thread_pool.h"
#include "bundle/bundle_directory.h"
#include "bundle/progress.h"
#include "model/weight_source.h"

namespace flexq {

struct SectionContents {
  std::string kind;
  std::span<const uint8_t> bytes;  // borrowed; not empty
};

// Everything in a bundle except the weights themselves.
struct BundleContents {
  ModelConfig config;
  std::string policy;
  std::vector<StoredTensor> tensors;  // exactly expected_tensors(config), in order
  std::vector<SectionContents> sections;
  std::optional<std::string> chat_template;
  BundleProvenance provenance;
};

// What the writer asks a producer for: rows [row_begin, row_begin + n_rows) of tensors[tensor].
struct ChunkRequest {
  int64_t tensor = 0;
  int64_t row_begin = 0;
  int64_t n_rows = 0;
  int thread = 0;  // index for per-thread scratch
};

// Fills all of `raw`, laid out as chunk_layout() says. Called from several threads at once, never
// with the same `thread` at once.
using ChunkProducer = FunctionRef<Status(const ChunkRequest& request, std::span<uint8_t> raw)>;

// Writes the bundle into `file`, still empty, and publishes it. The same contents give the same
// bytes for any pool. Memory: two raw and two compressed chunks per thread. On any error and when
// `progress` cancels (kCancelled), whatever was under the file's name stays as it was. Progress
// counts raw bytes.
Status write_bundle(AtomicFile file, const BundleContents& contents, ChunkProducer producer,
                    ThreadPool& pool, const ProgressSink& progress);

}  // namespace flexq
