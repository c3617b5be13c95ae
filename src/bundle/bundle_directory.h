// The directory of a bundle as plain structures, and its FlatBuffer form. Encoding and decoding
// are exact inverses and judge nothing but the limits that bound memory; bundle_validate.h judges.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "base/status.h"
#include "model/weight_source.h"

namespace flexq {

enum class ChunkCodec : uint8_t { kRaw = 0, kZstd = 1 };
enum class ScaleType : uint8_t { kNone = 0, kF16 = 1 };
enum class WeightLayout : uint8_t { kRowMajor = 0 };

struct ChunkEntry {
  int64_t offset = 0;  // from segment_base
  int64_t stored_bytes = 0;
  int64_t raw_bytes = 0;
  ChunkCodec codec = ChunkCodec::kRaw;
  int64_t row_begin = 0;
  int64_t n_rows = 0;
  Sha256Digest sha256{};  // of the stored bytes
};

struct TensorEntry {
  StoredTensor tensor;  // linear_kind is not stored: validation fills it in
  int32_t rank = 2;
  int32_t bits = 0;
  int32_t group_size = 0;
  bool symmetric = true;
  ScaleType scale_type = ScaleType::kNone;
  WeightLayout layout = WeightLayout::kRowMajor;
  std::vector<ChunkEntry> chunks;
};

// Bulk data that is not a tensor; its chunks count bytes as rows.
struct SectionEntry {
  std::string kind;
  std::vector<ChunkEntry> chunks;
};

inline constexpr char kTokenizerSection[] = "tokenizer";

// One measured figure about one tensor.
struct BundleEvidence {
  std::string tensor;
  std::string metric;
  double value = 0;
  std::vector<float> values = {};  // the same per group of inputs; empty: there is one figure only
};

// A precision measured end to end on the calibration text.
struct MeasuredPrecision {
  std::string name;     // of a policy; empty for points of the front
  double a8_share = 0;  // of the linear layers' multiply-accumulates, with 8-bit activations
  double perplexity = 0;
  double kl_divergence = 0;  // of the logits from the unquantized model's, nats per token
  double expected_rise = 0;  // of the negative log likelihood per token, over texts
  bool operator==(const MeasuredPrecision&) const = default;
};

// What the precisions were measured on, and what came out.
struct BundleCalibration {
  Sha256Digest text_sha256{};
  int32_t window_tokens = 0;
  int32_t n_windows = 0;
  std::string goal;  // "perplexity_budget", "a8_fraction", or empty: nothing was chosen
  double goal_value = 0;
  bool goal_met = true;
  std::vector<MeasuredPrecision> policies;
  std::vector<MeasuredPrecision> front;  // the least loss found, by rising share
  bool operator==(const BundleCalibration&) const = default;
};

struct BundleProvenance {
  std::string tool_version;
  std::string source;              // base name of the checkpoint folder, no path
  std::string source_config_json;  // verbatim
  std::vector<BundleEvidence> evidence;
  std::vector<std::pair<std::string, std::string>> key_values;
  std::optional<BundleCalibration> calibration;
};

struct BundleDirectory {
  std::vector<std::string> required_features;
  ModelConfig config;  // bos and eos included
  std::string policy;
  int32_t group_size = kGroupSize;
  std::vector<TensorEntry> tensors;
  std::vector<SectionEntry> sections;
  std::optional<std::string> chat_template;
  BundleProvenance provenance;
};

// The bits, group size, rank and scale type that follow from a tensor's format and shape.
TensorEntry make_tensor_entry(const StoredTensor& tensor);

// The FlatBuffer. Its size depends on texts and counts only, never on numbers, so that a directory
// can be measured before its chunks are written. kLimitExceeded when it would exceed the limits of
// a reader.
Result<std::vector<uint8_t>> encode_directory(const BundleDirectory& directory);

// The FlatBuffers Verifier over `bytes` (aligned to 8, at most kMaxDirectoryBytes).
Status verify_directory(std::span<const uint8_t> bytes, int32_t max_depth, int32_t max_tables,
                        const std::string& source);

// Verifies with the format's limits, then copies everything out; nothing refers to `bytes` later.
// kCorrupt, kLimitExceeded or kUnsupportedVersion (a required feature this reader does not know).
Result<BundleDirectory> decode_directory(std::span<const uint8_t> bytes, const std::string& source);

}  // namespace flexq
