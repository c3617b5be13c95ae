#include "bundle/bundle_reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/checked.h"
#include "base/memory_guard.h"
#include "base/stopwatch.h"
#include "bundle/bundle_signature.h"
#include "bundle/bundle_validate.h"

namespace flexq {
namespace {

constexpr int64_t kVerifyChunksPerThread = 16;  // between two progress reports

// At least `bytes` of room; contents are lost.
Status grow(HostBuffer& buffer, int64_t bytes, const char* what) {
  if (buffer.size() >= bytes) return {};
  buffer.release();
  FLEXQ_ASSIGN_OR_RETURN(buffer, HostBuffer::allocate(bytes, what));
  return {};
}

std::span<uint8_t> first_bytes(HostBuffer& buffer, int64_t bytes) {
  return buffer.span().first(static_cast<size_t>(bytes));
}

int64_t raw_total(const std::vector<ChunkEntry>& chunks) {
  int64_t total = 0;  // bounded by validation
  for (const ChunkEntry& chunk : chunks)
    total += chunk.raw_bytes;
  return total;
}

int64_t stored_total(const std::vector<ChunkEntry>& chunks) {
  int64_t total = 0;
  for (const ChunkEntry& chunk : chunks)
    total += chunk.stored_bytes;
  return total;
}

std::string in_source(const std::string& source, const char* kind, const std::string& name) {
  return source + ": " + kind + " " + name;
}

Result<BundleHeader> read_header(ByteSource& source) {
  std::array<uint8_t, kBundleHeaderBytes> bytes;
  const int64_t n_bytes = std::min(source.size(), kBundleHeaderBytes);
  const auto present = std::span(bytes).first(static_cast<size_t>(n_bytes));
  FLEXQ_RETURN_IF_ERROR(source.read_at(0, present));
  FLEXQ_ASSIGN_OR_RETURN(BundleHeader header, parse_header(present, source.size(), source.name()));
  return header;
}

}  // namespace

Result<std::unique_ptr<Bundle>> Bundle::open(std::unique_ptr<ByteSource> source,
                                             const BundleLimits& limits,
                                             const std::optional<Ed25519PublicKey>& required_key) {
  const std::string& name = source->name();
  FLEXQ_ASSIGN_OR_RETURN(const BundleHeader header, read_header(*source));

  // Header, directory and the padding up to the first segment, in one read.
  FLEXQ_ASSIGN_OR_RETURN(HostBuffer front,
                         HostBuffer::allocate(header.segment_base, "bundle directory"));
  FLEXQ_RETURN_IF_ERROR(source->read_at(0, front.span()));
  const std::span<const uint8_t> bytes = front.span();
  const auto directory_bytes = bytes.subspan(static_cast<size_t>(kBundleHeaderBytes),
                                             static_cast<size_t>(header.directory_bytes));
  if (directory_hash(bytes, directory_bytes) != header.sha256)
    return Status::error(StatusCode::kCorrupt,
                         "%s: header and directory do not have the SHA-256 that the header states",
                         name.c_str());
  FLEXQ_RETURN_IF_ERROR(check_signature(header, required_key, name));
  if (!all_zero(bytes.subspan(static_cast<size_t>(kBundleHeaderBytes + header.directory_bytes))))
    return Status::error(StatusCode::kCorrupt, "%s: padding after the directory is not zero",
                         name.c_str());

  FLEXQ_ASSIGN_OR_RETURN(BundleDirectory directory, decode_directory(directory_bytes, name));
  FLEXQ_RETURN_IF_ERROR(
      validate_directory(&directory, header.file_bytes - header.segment_base, limits, name));
  std::unique_ptr<Bundle> bundle(new Bundle(std::move(source), header, std::move(directory)));
  FLEXQ_RETURN_IF_ERROR(bundle->check_segment_padding());
  return bundle;
}

Bundle::Bundle(std::unique_ptr<ByteSource> source, const BundleHeader& header,
               BundleDirectory directory)
    : source_(std::move(source)), header_(header), directory_(std::move(directory)) {
  tensors_.reserve(directory_.tensors.size());
  for (const TensorEntry& entry : directory_.tensors)
    tensors_.push_back(entry.tensor);
}

Status Bundle::check_segment_padding() {
  std::array<uint8_t, kSegmentAlignment> bytes;
  const auto check = [&](const std::vector<ChunkEntry>& chunks) -> Status {
    // read_chunk() sees the bytes up to the next multiple of 64 itself.
    const int64_t begin =
        align_up(chunks.back().offset + chunks.back().stored_bytes, kChunkAlignment);
    const int64_t n_bytes = align_up(begin, kSegmentAlignment) - begin;
    const auto padding = std::span(bytes).first(static_cast<size_t>(n_bytes));
    FLEXQ_RETURN_IF_ERROR(source_->read_at(header_.segment_base + begin, padding));
    if (all_zero(padding)) return {};
    return Status::error(StatusCode::kCorrupt,
                         "%s: padding of the segment before byte %lld is "
                         "not zero",
                         source_->name().c_str(),
                         static_cast<long long>(header_.segment_base + begin + n_bytes));
  };
  for (const TensorEntry& entry : directory_.tensors)
    FLEXQ_RETURN_IF_ERROR(check(entry.chunks));
  for (const SectionEntry& entry : directory_.sections)
    FLEXQ_RETURN_IF_ERROR(check(entry.chunks));
  return {};
}

int64_t Bundle::n_pieces(int64_t tensor) const {
  if (tensor < 0 || tensor >= static_cast<int64_t>(directory_.tensors.size())) return 0;
  return static_cast<int64_t>(directory_.tensors[static_cast<size_t>(tensor)].chunks.size());
}

Status Bundle::read_chunk(const ChunkEntry& chunk, PieceBuffer& buffer,
                          std::span<const uint8_t>* raw) {
  // Raw chunks are read straight to where a decoded one would go.
  const bool compressed = chunk.codec == ChunkCodec::kZstd;
  HostBuffer& destination = compressed ? buffer.stored : buffer.decoded;
  const int64_t padded_bytes = align_up(chunk.stored_bytes, kChunkAlignment);
  FLEXQ_RETURN_IF_ERROR(grow(destination, padded_bytes, "bundle chunk"));
  const std::span<uint8_t> padded = first_bytes(destination, padded_bytes);
  Stopwatch watch;
  FLEXQ_RETURN_IF_ERROR(source_->read_at(header_.segment_base + chunk.offset, padded));
  buffer.times.read_ns += watch.lap_ns();

  const auto stored = padded.first(static_cast<size_t>(chunk.stored_bytes));
  const Sha256Digest digest = sha256(stored);
  buffer.times.hash_ns += watch.lap_ns();
  if (digest != chunk.sha256)
    return Status::error(StatusCode::kCorrupt, "stored bytes do not have the stated SHA-256");
  if (!all_zero(padded.subspan(stored.size())))
    return Status::error(StatusCode::kCorrupt, "padding is not zero");
  if (compressed) {
    FLEXQ_RETURN_IF_ERROR(check_frame(stored, chunk.raw_bytes));
    FLEXQ_RETURN_IF_ERROR(grow(buffer.decoded, chunk.raw_bytes, "decoded chunk"));
    FLEXQ_RETURN_IF_ERROR(
        decompressor_.decompress(stored, first_bytes(buffer.decoded, chunk.raw_bytes)));
    buffer.times.decode_ns += watch.lap_ns();
  }
  *raw = first_bytes(buffer.decoded, chunk.raw_bytes);
  return {};
}

Status Bundle::read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer, WeightPiece* out) {
  if (piece < 0 || piece >= n_pieces(tensor))
    return Status::error(StatusCode::kInvalidArgument, "%s: no piece %lld of tensor %lld",
                         source_->name().c_str(), static_cast<long long>(piece),
                         static_cast<long long>(tensor));
  const TensorEntry& entry = directory_.tensors[static_cast<size_t>(tensor)];
  const ChunkEntry& chunk = entry.chunks[static_cast<size_t>(piece)];
  const WeightFormat format = entry.tensor.format;
  const int64_t n_cols = entry.tensor.spec.cols;

  std::span<const uint8_t> raw;
  Status status = read_chunk(chunk, buffer, &raw);
  Stopwatch watch;
  if (status.ok()) status = check_chunk_values(format, chunk.row_begin, chunk.n_rows, n_cols, raw);
  buffer.times.check_ns += watch.lap_ns();
  if (!status.ok())
    return std::move(status).with_context(
        in_source(source_->name(), "tensor", entry.tensor.spec.name) + ": chunk " +
        std::to_string(piece));

  out->row_begin = chunk.row_begin;
  out->n_rows = chunk.n_rows;
  out->values = raw.data();
  out->scales = nullptr;
  if (is_quantized(format)) {
    const ChunkLayout layout = chunk_layout(format, chunk.n_rows, n_cols);
    out->scales = reinterpret_cast<const uint16_t*>(raw.data() + layout.scales_offset);
  }
  return {};
}

bool Bundle::has_section(std::string_view kind) const {
  return std::any_of(directory_.sections.begin(), directory_.sections.end(),
                     [&](const SectionEntry& section) { return section.kind == kind; });
}

Status Bundle::read_section_chunk(int64_t section, int64_t chunk, PieceBuffer& buffer,
                                  std::span<const uint8_t>* raw) {
  const SectionEntry& entry = directory_.sections[static_cast<size_t>(section)];
  Status status = read_chunk(entry.chunks[static_cast<size_t>(chunk)], buffer, raw);
  if (status.ok()) return status;
  return std::move(status).with_context(in_source(source_->name(), "section", entry.kind) +
                                        ": chunk " + std::to_string(chunk));
}

Result<HostBuffer> Bundle::read_section(std::string_view kind) {
  const auto& sections = directory_.sections;
  const auto found = std::find_if(sections.begin(), sections.end(),
                                  [&](const SectionEntry& entry) { return entry.kind == kind; });
  if (found == sections.end())
    return Status::error(StatusCode::kNotFound, "%s: the bundle has no section '%.*s'",
                         source_->name().c_str(), static_cast<int>(kind.size()), kind.data());
  FLEXQ_ASSIGN_OR_RETURN(HostBuffer bytes,
                         HostBuffer::allocate(raw_total(found->chunks), "bundle section"));
  PieceBuffer buffer;
  for (size_t i = 0; i < found->chunks.size(); ++i) {
    std::span<const uint8_t> raw;
    FLEXQ_RETURN_IF_ERROR(
        read_section_chunk(found - sections.begin(), static_cast<int64_t>(i), buffer, &raw));
    std::copy(raw.begin(), raw.end(), bytes.data() + found->chunks[i].row_begin);
  }
  return bytes;
}

Status Bundle::verify(ThreadPool& pool, const ProgressSink& progress) {
  struct Item {
    bool is_tensor;
    int64_t index;
    int64_t chunk;
    int64_t stored_bytes;
  };
  std::vector<Item> items;
  int64_t total_bytes = 0;
  const auto add = [&](bool is_tensor, int64_t index, const std::vector<ChunkEntry>& chunks) {
    for (size_t i = 0; i < chunks.size(); ++i)
      items.push_back({is_tensor, index, static_cast<int64_t>(i), chunks[i].stored_bytes});
    total_bytes += stored_total(chunks);
  };
  for (size_t i = 0; i < directory_.tensors.size(); ++i)
    add(true, static_cast<int64_t>(i), directory_.tensors[i].chunks);
  for (size_t i = 0; i < directory_.sections.size(); ++i)
    add(false, static_cast<int64_t>(i), directory_.sections[i].chunks);

  std::vector<PieceBuffer> buffers(static_cast<size_t>(pool.n_threads()));
  const int64_t n_items = static_cast<int64_t>(items.size());
  const int64_t wave = pool.n_threads() * kVerifyChunksPerThread;
  std::vector<Status> results(static_cast<size_t>(wave));
  int64_t done_bytes = 0;
  for (int64_t begin = 0; begin < n_items; begin += wave) {
    const int64_t count = std::min(wave, n_items - begin);
    pool.parallel_for(count, [&](int64_t task, int thread) {
      const Item& item = items[static_cast<size_t>(begin + task)];
      PieceBuffer& buffer = buffers[static_cast<size_t>(thread)];
      WeightPiece piece;
      std::span<const uint8_t> raw;
      results[static_cast<size_t>(task)] = guard_memory("bundle verification", [&] {
        return item.is_tensor ? read_piece(item.index, item.chunk, buffer, &piece)
                              : read_section_chunk(item.index, item.chunk, buffer, &raw);
      });
    });
    for (int64_t task = 0; task < count; ++task) {  // the first in file order, however many threads
      FLEXQ_RETURN_IF_ERROR(std::move(results[static_cast<size_t>(task)]));
      done_bytes += items[static_cast<size_t>(begin + task)].stored_bytes;
    }
    FLEXQ_RETURN_IF_ERROR(progress.report(done_bytes, total_bytes));
  }
  return {};
}

int64_t Bundle::stored_bytes(int64_t tensor) const {
  if (n_pieces(tensor) == 0) return 0;
  return stored_total(directory_.tensors[static_cast<size_t>(tensor)].chunks);
}

int64_t Bundle::decoded_bytes(int64_t tensor) const {
  if (n_pieces(tensor) == 0) return 0;
  return raw_total(directory_.tensors[static_cast<size_t>(tensor)].chunks);
}

double Bundle::linear_bits_per_weight() const {
  const auto is_quantized_linear = [](const TensorEntry& entry) {
    return is_grouped(entry.tensor.format);
  };
  const bool any_quantized =
      std::any_of(directory_.tensors.begin(), directory_.tensors.end(), is_quantized_linear);
  double bits = 0;
  double weights = 0;
  for (const TensorEntry& entry : directory_.tensors) {
    const TensorSpec& spec = entry.tensor.spec;
    if (spec.role != TensorRole::kLinear || (any_quantized && !is_quantized_linear(entry)))
      continue;
    bits += 8.0 * static_cast<double>(stored_total(entry.chunks));
    weights += static_cast<double>(spec.rows) * static_cast<double>(spec.cols);
  }
  return weights > 0 ? bits / weights : 0.0;
}

}  // namespace flexq
