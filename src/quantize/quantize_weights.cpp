#include "quantize/quantize_weights.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "bundle/bundle_format.h"
#include "bundle/chunk_codec.h"
#include "quantize/dense_values.h"
#include "quantize/group_quantizer.h"

namespace flexq {
namespace {

// The format that the precision asks for; the source's own where it asks for none.
WeightFormat quantized_format(const StoredTensor& source, const WeightPrecision& precision,
                              bool tied) {
  const TensorRole role = source.spec.role;
  if (role == TensorRole::kLinear && precision.policy.weight_bits == 6)
    return WeightFormat::kInt6Group;
  if (role == TensorRole::kLinear && precision.policy.weight_bits == 8)
    return WeightFormat::kInt8Group;
  const bool embedding_8 = precision.embedding_bits == 8 || (tied && precision.lm_head_bits == 8);
  if ((role == TensorRole::kEmbedding && embedding_8) ||
      (role == TensorRole::kLmHead && precision.lm_head_bits == 8))
    return WeightFormat::kInt8Row;
  return source.format;
}

// How one tensor will be stored, once its weights are known.
Result<StoredTensor> plan_tensor(const StoredTensor& source, const TensorScan& scan,
                                 const WeightPrecision& precision, bool tied) {
  StoredTensor stored = planned_tensor(source, precision, tied);
  if (is_quantized(stored.format)) {
    stored.scale_multiplier = choose_scale_multiplier(
        group_scale(stored.format, scan.min_group_max), group_scale(stored.format, scan.max_abs));
    if (stored.scale_multiplier > kMaxScaleMultiplier)
      return Status::error(StatusCode::kLimitExceeded, "tensor %s: weights of magnitude %g",
                           source.spec.name.c_str(), static_cast<double>(scan.max_abs));
    return stored;
  }
  // Norms and biases are small and enter fp32 sums: they stay.
  if (source.format == WeightFormat::kF32 && !source.spec.is_vector() && fits_half(scan.max_abs))
    stored.format = WeightFormat::kF16;
  return stored;
}

// Produces the chunks of the bundle out of the pieces of the source. Their boundaries are the same
// for 16-bit sources; a chunk of an F32 source collects the rows of several pieces.
class ChunkQuantizer {
 public:
  ChunkQuantizer(WeightSource& source, const std::vector<TensorScan>& scans,
                 const std::vector<RowConversion>& conversions, int n_threads)
      : source_(source),
        scans_(scans),
        conversions_(conversions),
        scratch_(make_scratch(source, n_threads)) {}

  Status produce(const ChunkRequest& request, std::span<uint8_t> raw) {
    const size_t t = static_cast<size_t>(request.tensor);
    const RowConversion& conversion = conversions_[t];
    const StoredTensor& stored = conversion.to;
    const int64_t row_bytes = stored.spec.cols * element_bytes(conversion.from);
    const ChunkLayout layout = chunk_layout(stored.format, request.n_rows, stored.spec.cols);
    ScanScratch& scratch = scratch_[static_cast<size_t>(request.thread)];
    auto* const scales = reinterpret_cast<uint16_t*>(raw.data() + layout.scales_offset);
    const int64_t n_scales = scales_per_row(stored.format, stored.spec.cols);
    const int64_t stored_row_bytes = stored.spec.cols * element_bytes(stored.format);
    if (layout.scales_offset > layout.values_bytes)
      raw[static_cast<size_t>(layout.values_bytes)] = 0;  // the byte that aligns the scales

    const std::vector<int64_t>& ends = scans_[t].piece_ends;
    const int64_t end_row = request.row_begin + request.n_rows;
    auto piece_end = std::upper_bound(ends.begin(), ends.end(), request.row_begin);
    for (int64_t row = request.row_begin; row < end_row; ++piece_end) {
      WeightPiece piece;
      FLEXQ_RETURN_IF_ERROR(
          source_.read_piece(request.tensor, piece_end - ends.begin(), scratch.buffer, &piece));
      for (; row < std::min(end_row, *piece_end); ++row) {
        const int64_t index = row - request.row_begin;
        convert_row(conversion, piece.values + (row - piece.row_begin) * row_bytes,
                    scratch.row.data(), raw.data() + index * stored_row_bytes,
                    scales + index * n_scales);
      }
    }
    return {};
  }

 private:
  WeightSource& source_;
  const std::vector<TensorScan>& scans_;
  const std::vector<RowConversion>& conversions_;
  std::vector<ScanScratch> scratch_;  // one per thread
};

// Continues the scan's progress: the writer's share becomes the second half of the total.
struct SecondHalf {
  const ProgressSink& sink;
  int64_t half_bytes;

  static int32_t callback(int64_t done_bytes, int64_t total_bytes, void* user_data) {
    const auto& self = *static_cast<SecondHalf*>(user_data);
    if (self.sink.callback == nullptr) return 0;
    const double share = static_cast<double>(done_bytes) / static_cast<double>(total_bytes);
    const int64_t done = done_bytes == total_bytes
                             ? self.half_bytes
                             : static_cast<int64_t>(share * static_cast<double>(self.half_bytes));
    return self.sink.callback(self.half_bytes + done, 2 * self.half_bytes, self.sink.user_data);
  }
};

}  // namespace

StoredTensor planned_tensor(const StoredTensor& source, const WeightPrecision& precision,
                            bool tied_embeddings) {
  StoredTensor stored;
  stored.spec = source.spec;
  stored.format = quantized_format(source, precision, tied_embeddings);
  if (is_grouped(stored.format)) {
    const auto kind = static_cast<size_t>(source.spec.linear_kind);
    const auto layer = static_cast<size_t>(source.spec.layer);
    stored.activation_bits = precision.layer_bits.empty()
                                 ? precision.policy.bits_for(source.spec.linear_kind)
                                 : precision.layer_bits[layer][kind];
  }
  return stored;
}

Result<std::vector<RowConversion>> plan_conversions(const WeightSource& source,
                                                    const std::vector<TensorScan>& scans,
                                                    const WeightPrecision& precision) {
  std::vector<RowConversion> conversions;
  conversions.reserve(scans.size());
  for (size_t i = 0; i < scans.size(); ++i) {
    const StoredTensor& tensor = source.tensors()[i];
    RowConversion& conversion = conversions.emplace_back();
    conversion.from = tensor.format;
    FLEXQ_ASSIGN_OR_RETURN(
        conversion.to, plan_tensor(tensor, scans[i], precision, source.config().tied_embeddings));
    conversion.search = precision.scale_search;
    if (i < precision.importance.size() && !precision.importance[i].empty())
      conversion.importance = precision.importance[i].data();
  }
  return conversions;
}

Status write_weights(WeightSource& source, const std::vector<TensorScan>& scans,
                     const WeightPrecision& precision, BundleContents contents, AtomicFile file,
                     ThreadPool& pool, const ProgressSink& progress) {
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<RowConversion> conversions,
                         plan_conversions(source, scans, precision));
  contents.config = source.config();
  contents.policy = precision.policy.name;
  contents.tensors.clear();
  for (const RowConversion& conversion : conversions)
    contents.tensors.push_back(conversion.to);
  ChunkQuantizer quantizer(source, scans, conversions, pool.n_threads());
  SecondHalf second_half{progress, source_bytes(source)};
  return write_bundle(
      std::move(file), contents,
      [&](const ChunkRequest& request, std::span<uint8_t> raw) {
        return quantizer.produce(request, raw);
      },
      pool, ProgressSink{SecondHalf::callback, &second_half});
}

Status quantize_weights(WeightSource& source, const WeightPrecision& precision,
                        BundleContents contents, const std::string& output_path, ThreadPool& pool,
                        const ProgressSink& progress) {
  // First of all: what cannot be written to is refused before hours of work, not after.
  FLEXQ_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(output_path));
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<TensorScan> scans, scan_weights(source, pool, progress));
  return write_weights(source, scans, precision, std::move(contents), std::move(file), pool,
                       progress);
}

}  // namespace flexq
