#include "bundle/bundle_validate.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "base/checked.h"
#include "base/thread_pool.h"
#include "bundle/chunk_codec.h"

namespace flexq {
namespace {

Status corrupt(const std::string& where, const char* what, int64_t found, int64_t expected) {
  return Status::error(StatusCode::kCorrupt, "%s: %s is %lld, expected %lld", where.c_str(), what,
                       static_cast<long long>(found), static_cast<long long>(expected));
}

#define FLEXQ_EXPECT_EQUAL(where, what, found, expected)                                        \
  do {                                                                                          \
    if ((found) != (expected))                                                                  \
      return corrupt(where, what, static_cast<int64_t>(found), static_cast<int64_t>(expected)); \
  } while (false)

bool is_multiplier(float value) {
  int exponent = 0;
  return value >= kMinScaleMultiplier && value <= kMaxScaleMultiplier &&
         std::frexp(value, &exponent) == 0.5f;
}

Status check_spec(const TensorEntry& entry, const TensorSpec& expected, const std::string& where) {
  const TensorSpec& spec = entry.tensor.spec;
  if (spec.name != expected.name)
    return Status::error(StatusCode::kCorrupt, "%s: expected tensor %s in its place", where.c_str(),
                         expected.name.c_str());
  FLEXQ_EXPECT_EQUAL(where, "role", spec.role, expected.role);
  FLEXQ_EXPECT_EQUAL(where, "layer", spec.layer, expected.layer);
  FLEXQ_EXPECT_EQUAL(where, "rank", entry.rank, expected.is_vector() ? 1 : 2);
  FLEXQ_EXPECT_EQUAL(where, "number of rows", spec.rows, expected.rows);
  FLEXQ_EXPECT_EQUAL(where, "number of columns", spec.cols, expected.cols);
  return {};
}

Status check_format(const TensorEntry& entry, const std::string& where) {
  const StoredTensor& tensor = entry.tensor;
  if (tensor.format > kLastWeightFormat)
    return Status::error(StatusCode::kCorrupt, "%s: unknown weight format %d", where.c_str(),
                         static_cast<int>(tensor.format));
  const bool grouped = is_grouped(tensor.format);
  const bool quantized = is_quantized(tensor.format);
  if (grouped && tensor.spec.role != TensorRole::kLinear)
    return Status::error(StatusCode::kCorrupt, "%s: grouped weights outside a linear layer",
                         where.c_str());
  if (quantized && !grouped && tensor.spec.role != TensorRole::kEmbedding &&
      tensor.spec.role != TensorRole::kLmHead)
    return Status::error(StatusCode::kCorrupt, "%s: 8-bit rows outside the embedding and lm_head",
                         where.c_str());
  const TensorEntry expected = make_tensor_entry(tensor);
  FLEXQ_EXPECT_EQUAL(where, "bits", entry.bits, expected.bits);
  FLEXQ_EXPECT_EQUAL(where, "group size", entry.group_size, expected.group_size);
  FLEXQ_EXPECT_EQUAL(where, "symmetric", entry.symmetric, expected.symmetric);
  FLEXQ_EXPECT_EQUAL(where, "scale type", entry.scale_type, expected.scale_type);
  FLEXQ_EXPECT_EQUAL(where, "layout", entry.layout, expected.layout);
  const int32_t bits = tensor.activation_bits;
  if (bits != 16 && !(grouped && (bits == 6 || bits == 8)))
    return Status::error(StatusCode::kCorrupt, "%s: activation bits are %d, expected %s",
                         where.c_str(), bits, grouped ? "6, 8 or 16" : "16");
  if (!is_multiplier(tensor.scale_multiplier) || (!quantized && tensor.scale_multiplier != 1.0f))
    return Status::error(StatusCode::kCorrupt, "%s: scale multiplier is %g, expected %s",
                         where.c_str(), static_cast<double>(tensor.scale_multiplier),
                         quantized ? "a power of two from 2^-105 to 2^105" : "1");
  return {};
}

// Walks the chunks of all segments in file order.
class SegmentWalk {
 public:
  SegmentWalk(int64_t segment_bytes, const BundleLimits& limits)
      : segment_bytes_(segment_bytes), limits_(limits) {}

  // One tensor or section of `rows` rows; every chunk but the last has a multiple of
  // `row_multiple` rows, and `raw_bytes` says how large a chunk of so many rows must be.
  Status segment(const std::vector<ChunkEntry>& chunks, int64_t rows, int64_t row_multiple,
                 FunctionRef<int64_t(int64_t n_rows)> raw_bytes, const std::string& where) {
    if (chunks.empty()) return Status::error(StatusCode::kCorrupt, "%s: no chunks", where.c_str());
    int64_t row = 0;
    for (size_t i = 0; i < chunks.size(); ++i) {
      const ChunkEntry& chunk = chunks[i];
      const std::string chunk_name = where + ": chunk " + std::to_string(i);
      FLEXQ_EXPECT_EQUAL(chunk_name, "first row", chunk.row_begin, row);
      if (chunk.n_rows < 1 || chunk.n_rows > rows - row)
        return Status::error(StatusCode::kCorrupt, "%s: %lld rows, expected 1 to %lld",
                             chunk_name.c_str(), static_cast<long long>(chunk.n_rows),
                             static_cast<long long>(rows - row));
      row += chunk.n_rows;
      if (row != rows && chunk.n_rows % row_multiple != 0)
        return Status::error(StatusCode::kCorrupt, "%s: %lld rows, expected a multiple of %lld",
                             chunk_name.c_str(), static_cast<long long>(chunk.n_rows),
                             static_cast<long long>(row_multiple));
      FLEXQ_EXPECT_EQUAL(chunk_name, "decoded size", chunk.raw_bytes, raw_bytes(chunk.n_rows));
      FLEXQ_RETURN_IF_ERROR(place(chunk, chunk_name));
    }
    FLEXQ_EXPECT_EQUAL(where, "number of rows in chunks", row, rows);
    cursor_.align_up(kSegmentAlignment);
    return {};
  }

  Status finish(const std::string& source) const {
    if (!cursor_.valid() || cursor_.value() != segment_bytes_)
      return corrupt(source, "size of all segments", cursor_.value(), segment_bytes_);
    return {};
  }

 private:
  Status place(const ChunkEntry& chunk, const std::string& name) {
    if (chunk.raw_bytes > kMaxPieceBytes)
      return Status::error(
          StatusCode::kLimitExceeded, "%s: %lld decoded bytes, expected at most %lld", name.c_str(),
          static_cast<long long>(chunk.raw_bytes), static_cast<long long>(kMaxPieceBytes));
    if (chunk.codec > ChunkCodec::kZstd)
      return Status::error(StatusCode::kCorrupt, "%s: unknown codec %d", name.c_str(),
                           static_cast<int>(chunk.codec));
    if (chunk.codec == ChunkCodec::kRaw)
      FLEXQ_EXPECT_EQUAL(name, "stored size", chunk.stored_bytes, chunk.raw_bytes);
    // A frame that gained nothing is stored raw instead, so no chunk is larger than its content.
    if (chunk.stored_bytes < 1 || chunk.stored_bytes > chunk.raw_bytes)
      return Status::error(StatusCode::kCorrupt, "%s: stored size is %lld, expected 1 to %lld",
                           name.c_str(), static_cast<long long>(chunk.stored_bytes),
                           static_cast<long long>(chunk.raw_bytes));
    // Both are at most kMaxPieceBytes.
    if (chunk.raw_bytes > chunk.stored_bytes * kMaxExpansion)
      return Status::error(StatusCode::kLimitExceeded,
                           "%s: %lld stored bytes for %lld decoded, expected at least %lld",
                           name.c_str(), static_cast<long long>(chunk.stored_bytes),
                           static_cast<long long>(chunk.raw_bytes),
                           static_cast<long long>(ceil_div(chunk.raw_bytes, kMaxExpansion)));
    // Chunks follow each other: an offset that differs would leave a hole or overlap.
    cursor_.align_up(kChunkAlignment);
    FLEXQ_EXPECT_EQUAL(name, "offset", chunk.offset, cursor_.value());
    cursor_.add(chunk.stored_bytes);
    if (!cursor_.valid() || cursor_.value() > segment_bytes_)
      return Status::error(
          StatusCode::kCorrupt, "%s: ends at %lld, beyond the segments' %lld bytes", name.c_str(),
          static_cast<long long>(cursor_.value()), static_cast<long long>(segment_bytes_));
    decoded_.add(chunk.raw_bytes);
    if (!decoded_.valid() || decoded_.value() > limits_.max_decoded_bytes)
      return Status::error(StatusCode::kLimitExceeded,
                           "%s: more than the %lld decoded bytes that the caller allows",
                           name.c_str(), static_cast<long long>(limits_.max_decoded_bytes));
    return {};
  }

  const int64_t segment_bytes_;
  const BundleLimits& limits_;
  CheckedSize cursor_;
  CheckedSize decoded_;
};

Status check_section_names(const std::vector<SectionEntry>& sections, const std::string& source) {
  std::vector<std::string_view> kinds;
  kinds.reserve(sections.size());
  for (const SectionEntry& section : sections) {
    if (section.kind.empty())
      return Status::error(StatusCode::kCorrupt, "%s: section without a name", source.c_str());
    kinds.push_back(section.kind);
  }
  std::sort(kinds.begin(), kinds.end());
  const auto twin = std::adjacent_find(kinds.begin(), kinds.end());
  if (twin == kinds.end()) return {};
  return Status::error(StatusCode::kCorrupt, "%s: section '%s' is present twice", source.c_str(),
                       std::string(*twin).c_str());
}

// Sections are rows of one byte; their chunks, one after the other, say how long they are.
Status check_section(const SectionEntry& section, SegmentWalk& walk, const std::string& where) {
  CheckedSize size;
  for (const ChunkEntry& chunk : section.chunks)
    size.add(chunk.n_rows);
  if (!size.valid() || size.value() > kMaxSectionBytes)
    return Status::error(StatusCode::kLimitExceeded, "%s: %lld bytes, expected at most %lld",
                         where.c_str(), static_cast<long long>(size.value()),
                         static_cast<long long>(kMaxSectionBytes));
  return walk.segment(
      section.chunks, size.value(), 1, [](int64_t n_rows) { return n_rows; }, where);
}

bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

Status check_evidence(const BundleProvenance& provenance, const std::string& source) {
  for (const BundleEvidence& evidence : provenance.evidence)
    if (!std::isfinite(evidence.value) || !all_finite(evidence.values))
      return Status::error(StatusCode::kCorrupt, "%s: %s of %s is not finite", source.c_str(),
                           evidence.metric.c_str(), evidence.tensor.c_str());
  return {};
}

Status check_measured(const std::vector<MeasuredPrecision>& list, const std::string& source) {
  for (const MeasuredPrecision& measured : list) {
    if (!(measured.a8_share >= 0 && measured.a8_share <= 1))
      return Status::error(StatusCode::kCorrupt,
                           "%s: share of 8-bit work of '%s' is %g, expected 0 to 1", source.c_str(),
                           measured.name.c_str(), measured.a8_share);
    if (!std::isfinite(measured.perplexity) || !std::isfinite(measured.kl_divergence) ||
        !std::isfinite(measured.expected_rise))
      return Status::error(StatusCode::kCorrupt, "%s: a figure of '%s' is not finite",
                           source.c_str(), measured.name.c_str());
  }
  return {};
}

Status check_calibration(const BundleCalibration& calibration, const std::string& source) {
  if (calibration.window_tokens < 0 || calibration.n_windows < 0)
    return Status::error(StatusCode::kCorrupt,
                         "%s: calibration on %d windows of %d tokens, expected 0 or more",
                         source.c_str(), calibration.n_windows, calibration.window_tokens);
  if (!std::isfinite(calibration.goal_value))
    return Status::error(StatusCode::kCorrupt, "%s: the calibration's goal is not finite",
                         source.c_str());
  FLEXQ_RETURN_IF_ERROR(check_measured(calibration.policies, source));
  return check_measured(calibration.front, source);
}

}  // namespace

Status validate_directory(BundleDirectory* directory, int64_t segment_bytes,
                          const BundleLimits& limits, const std::string& source) {
  FLEXQ_EXPECT_EQUAL(source, "group size", directory->group_size, kGroupSize);
  FLEXQ_RETURN_IF_ERROR(validate_config(directory->config, source));
  std::vector<TensorSpec> expected = expected_tensors(directory->config);
  FLEXQ_EXPECT_EQUAL(source, "number of tensors", directory->tensors.size(), expected.size());

  SegmentWalk walk(segment_bytes, limits);
  for (size_t i = 0; i < expected.size(); ++i) {
    TensorEntry& entry = directory->tensors[i];
    const std::string where = source + ": tensor " + entry.tensor.spec.name;
    FLEXQ_RETURN_IF_ERROR(check_spec(entry, expected[i], where));
    FLEXQ_RETURN_IF_ERROR(check_format(entry, where));
    const auto raw_bytes = [&](int64_t n_rows) {
      return chunk_layout(entry.tensor.format, n_rows, expected[i].cols).raw_bytes;
    };
    FLEXQ_RETURN_IF_ERROR(
        walk.segment(entry.chunks, expected[i].rows, kPieceRowMultiple, raw_bytes, where));
    entry.tensor.spec = std::move(expected[i]);
  }
  FLEXQ_RETURN_IF_ERROR(check_section_names(directory->sections, source));
  for (const SectionEntry& section : directory->sections)
    FLEXQ_RETURN_IF_ERROR(check_section(section, walk, source + ": section " + section.kind));
  FLEXQ_RETURN_IF_ERROR(check_evidence(directory->provenance, source));
  if (directory->provenance.calibration)
    FLEXQ_RETURN_IF_ERROR(check_calibration(*directory->provenance.calibration, source));
  return walk.finish(source);
}

}  // namespace flexq
