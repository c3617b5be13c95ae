#include "bundle/bundle_writer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/checked.h"
#include "base/memory_guard.h"
#include "bundle/bundle_format.h"
#include "bundle/bundle_header.h"
#include "bundle/bundle_validate.h"
#include "bundle/chunk_codec.h"

namespace flexq {
namespace {

constexpr int64_t kChunksPerThread = 2;  // in flight: some threads finish early in every wave

// The directory with every chunk's rows and raw size, and zeros for what only writing can tell.
// Chunk boundaries depend on shapes alone.
BundleDirectory plan_directory(const BundleContents& contents) {
  BundleDirectory directory;
  directory.config = contents.config;
  directory.policy = contents.policy;
  directory.chat_template = contents.chat_template;
  directory.provenance = contents.provenance;
  directory.tensors.reserve(contents.tensors.size());
  for (const StoredTensor& tensor : contents.tensors) {
    TensorEntry& entry = directory.tensors.emplace_back(make_tensor_entry(tensor));
    const int64_t step = std::max<int64_t>(rows_per_chunk(tensor.spec), 1);
    for (int64_t row = 0; row < tensor.spec.rows; row += step) {
      ChunkEntry& chunk = entry.chunks.emplace_back();
      chunk.row_begin = row;
      chunk.n_rows = std::min(step, tensor.spec.rows - row);
      chunk.raw_bytes = chunk_layout(tensor.format, chunk.n_rows, tensor.spec.cols).raw_bytes;
    }
  }
  directory.sections.reserve(contents.sections.size());
  for (const SectionContents& section : contents.sections) {
    SectionEntry& entry = directory.sections.emplace_back();
    entry.kind = section.kind;
    const int64_t size = static_cast<int64_t>(section.bytes.size());
    for (int64_t at = 0; at < size; at += kSectionChunkBytes) {
      ChunkEntry& chunk = entry.chunks.emplace_back();
      chunk.row_begin = at;
      chunk.n_rows = chunk.raw_bytes = std::min(kSectionChunkBytes, size - at);
    }
  }
  return directory;
}

// A chunk on its way to the file.
struct Slot {
  HostBuffer raw;
  HostBuffer packed;
  std::span<uint8_t> stored;  // padded to kChunkAlignment; points into `raw` or `packed`
  Status status;
};

// Where a chunk comes from and where its entry is.
struct WorkItem {
  ChunkEntry* chunk;
  int64_t tensor;                          // -1 for sections
  std::span<const uint8_t> section_bytes;  // of this chunk
  bool ends_segment;
};

class BundleWriter {
 public:
  BundleWriter(AtomicFile file, const BundleContents& contents, ChunkProducer producer,
               ThreadPool& pool)
      : file_(std::move(file)),
        contents_(contents),
        producer_(producer),
        pool_(pool),
        compressors_(static_cast<size_t>(pool.n_threads())),
        directory_(plan_directory(contents)) {}

  Status write(const ProgressSink& progress) {
    FLEXQ_RETURN_IF_ERROR(check_contents());
    // Numbers do not change the size of the directory, so a first encoding measures it.
    FLEXQ_ASSIGN_OR_RETURN(const std::vector<uint8_t> measured, encode_directory(directory_));
    BundleHeader header;
    header.directory_bytes = static_cast<int64_t>(measured.size());
    header.segment_base = segment_base_for(header.directory_bytes);
    segment_base_ = header.segment_base;

    FLEXQ_RETURN_IF_ERROR(write_segments(progress));
    FLEXQ_RETURN_IF_ERROR(validate_directory(&directory_, cursor_,
                                             BundleLimits{.max_decoded_bytes = INT64_MAX},
                                             file_.path())
                              .with_context("the directory just written"));
    FLEXQ_ASSIGN_OR_RETURN(const std::vector<uint8_t> encoded, encode_directory(directory_));
    if (encoded.size() != measured.size())
      return Status::error(StatusCode::kInternal, "directory of %zu bytes, measured as %zu",
                           encoded.size(), measured.size());
    header.file_bytes = segment_base_ + cursor_;
    FLEXQ_RETURN_IF_ERROR(file_.write_at(kBundleHeaderBytes, encoded));
    FLEXQ_RETURN_IF_ERROR(write_zeros(kBundleHeaderBytes + header.directory_bytes, segment_base_));
    FLEXQ_RETURN_IF_ERROR(file_.write_at(0, encode_header(header, encoded)));
    return file_.publish();
  }

 private:
  // What a caller can get wrong, before anything is written; validate_directory() sees the rest.
  Status check_contents() const {
    FLEXQ_RETURN_IF_ERROR(validate_config(contents_.config, "bundle contents"));
    const std::vector<TensorSpec> expected = expected_tensors(contents_.config);
    if (contents_.tensors.size() != expected.size())
      return Status::error(StatusCode::kInvalidArgument,
                           "bundle contents: %zu tensors, expected %zu", contents_.tensors.size(),
                           expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      const TensorSpec& spec = contents_.tensors[i].spec;
      if (spec.name != expected[i].name || spec.rows != expected[i].rows ||
          spec.cols != expected[i].cols)
        return Status::error(StatusCode::kInvalidArgument,
                             "bundle contents: tensor %s (%lld, %lld), expected %s (%lld, %lld)",
                             spec.name.c_str(), static_cast<long long>(spec.rows),
                             static_cast<long long>(spec.cols), expected[i].name.c_str(),
                             static_cast<long long>(expected[i].rows),
                             static_cast<long long>(expected[i].cols));
    }
    for (const SectionContents& section : contents_.sections)
      if (section.bytes.empty())
        return Status::error(StatusCode::kInvalidArgument, "bundle contents: section %s is empty",
                             section.kind.c_str());
    return {};
  }

  std::vector<WorkItem> list_work() {
    std::vector<WorkItem> items;
    for (size_t i = 0; i < directory_.tensors.size(); ++i)
      for (ChunkEntry& chunk : directory_.tensors[i].chunks)
        items.push_back(
            {&chunk, static_cast<int64_t>(i), {}, &chunk == &directory_.tensors[i].chunks.back()});
    for (size_t i = 0; i < directory_.sections.size(); ++i)
      for (ChunkEntry& chunk : directory_.sections[i].chunks)
        items.push_back({&chunk, -1,
                         contents_.sections[i].bytes.subspan(static_cast<size_t>(chunk.row_begin),
                                                             static_cast<size_t>(chunk.n_rows)),
                         &chunk == &directory_.sections[i].chunks.back()});
    return items;
  }

  // Waves of chunks are produced and compressed in parallel, then written in order.
  Status write_segments(const ProgressSink& progress) {
    const std::vector<WorkItem> items = list_work();
    CheckedSize total;
    for (const WorkItem& item : items)
      total.add(item.chunk->raw_bytes);
    std::vector<Slot> slots(static_cast<size_t>(pool_.n_threads() * kChunksPerThread));
    int64_t done_bytes = 0;
    for (size_t begin = 0; begin < items.size(); begin += slots.size()) {
      const size_t count = std::min(slots.size(), items.size() - begin);
      pool_.parallel_for(static_cast<int64_t>(count), [&](int64_t task, int thread) {
        Slot& slot = slots[static_cast<size_t>(task)];
        slot.status = guard_memory("bundle writer", [&] {
          return pack(items[begin + static_cast<size_t>(task)], slot, thread);
        });
      });
      for (size_t i = 0; i < count; ++i) {
        FLEXQ_RETURN_IF_ERROR(std::move(slots[i].status));
        FLEXQ_RETURN_IF_ERROR(append(items[begin + i], slots[i]));
        done_bytes += items[begin + i].chunk->raw_bytes;
      }
      FLEXQ_RETURN_IF_ERROR(progress.report(done_bytes, total.value()));
    }
    return {};
  }

  // Produces, checks, compresses and hashes one chunk.
  Status pack(const WorkItem& item, Slot& slot, int thread) {
    ChunkEntry& chunk = *item.chunk;
    const int64_t padded_raw = align_up(chunk.raw_bytes, kChunkAlignment);
    const int64_t bound = align_up(ChunkCompressor::bound(chunk.raw_bytes), kChunkAlignment);
    if (slot.raw.size() < padded_raw) {
      FLEXQ_ASSIGN_OR_RETURN(slot.raw, HostBuffer::allocate(padded_raw, "raw chunk"));
    }
    if (slot.packed.size() < bound) {
      FLEXQ_ASSIGN_OR_RETURN(slot.packed, HostBuffer::allocate(bound, "compressed chunk"));
    }
    const auto raw = slot.raw.span().first(static_cast<size_t>(chunk.raw_bytes));
    FLEXQ_RETURN_IF_ERROR(produce(item, raw, thread));

    FLEXQ_ASSIGN_OR_RETURN(
        const int64_t packed_bytes,
        compressors_[static_cast<size_t>(thread)].compress(raw, slot.packed.span()));
    chunk.codec = packed_bytes > 0 ? ChunkCodec::kZstd : ChunkCodec::kRaw;
    chunk.stored_bytes = packed_bytes > 0 ? packed_bytes : chunk.raw_bytes;
    HostBuffer& stored = packed_bytes > 0 ? slot.packed : slot.raw;
    const size_t n_bytes = static_cast<size_t>(chunk.stored_bytes);
    chunk.sha256 = sha256(stored.span().first(n_bytes));
    slot.stored =
        stored.span().first(static_cast<size_t>(align_up(chunk.stored_bytes, kChunkAlignment)));
    std::fill(slot.stored.begin() + chunk.stored_bytes, slot.stored.end(), uint8_t{0});
    return {};
  }

  Status produce(const WorkItem& item, std::span<uint8_t> raw, int thread) {
    if (item.tensor < 0) {
      std::copy(item.section_bytes.begin(), item.section_bytes.end(), raw.begin());
      return {};
    }
    const StoredTensor& tensor = contents_.tensors[static_cast<size_t>(item.tensor)];
    const ChunkEntry& chunk = *item.chunk;
    FLEXQ_RETURN_IF_ERROR(producer_({item.tensor, chunk.row_begin, chunk.n_rows, thread}, raw));
    // Nothing is written that a reader would refuse.
    return check_chunk_values(tensor.format, chunk.row_begin, chunk.n_rows, tensor.spec.cols, raw)
        .with_context("tensor " + tensor.spec.name);
  }

  Status append(const WorkItem& item, const Slot& slot) {
    item.chunk->offset = cursor_;
    FLEXQ_RETURN_IF_ERROR(file_.write_at(segment_base_ + cursor_, slot.stored));
    cursor_ += static_cast<int64_t>(slot.stored.size());
    if (!item.ends_segment) return {};
    const int64_t end = align_up(cursor_, kSegmentAlignment);
    FLEXQ_RETURN_IF_ERROR(write_zeros(segment_base_ + cursor_, segment_base_ + end));
    cursor_ = end;
    return {};
  }

  // Fewer than kSegmentAlignment bytes.
  Status write_zeros(int64_t begin, int64_t end) {
    static constexpr std::array<uint8_t, kSegmentAlignment> kZeros{};
    if (begin == end) return {};
    return file_.write_at(begin, std::span(kZeros).first(static_cast<size_t>(end - begin)));
  }

  AtomicFile file_;
  const BundleContents& contents_;
  const ChunkProducer producer_;
  ThreadPool& pool_;
  std::vector<ChunkCompressor> compressors_;  // one per thread
  BundleDirectory directory_;
  int64_t segment_base_ = 0;
  int64_t cursor_ = 0;  // from segment_base_: where the next chunk goes
};

}  // namespace

Status write_bundle(AtomicFile file, const BundleContents& contents, ChunkProducer producer,
                    ThreadPool& pool, const ProgressSink& progress) {
  BundleWriter writer(std::move(file), contents, producer, pool);
  return writer.write(progress);
}

}  // namespace flexq
