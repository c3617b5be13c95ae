// Checks that whole bundles reach only through others: each alone, and in the order of FORMAT.md.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "base/byte_source.h"
#include "base/checked.h"
#include "base/memory.h"
#include "bundle/bundle_parts.h"
#include "bundle/bundle_reader.h"
#include "bundle/bundle_validate.h"
#include "bundle/chunk_codec.h"
#include "bundle/directory_schema.h"
#include "reliability/allocation_faults.h"

namespace flexq::test {
namespace {

void check_refused(const Status& status, StatusCode code, const std::string& fragment) {
  CHECK(status.code() == code);
  const std::string message = status.message();
  CHECK_MESSAGE(message.find(fragment) != std::string::npos, message << " lacks: " << fragment);
}

Status load_changed(const std::function<void(BundleDirectory&)>& change) {
  BundleParts parts = take_apart(tiny_bundle());
  const Bytes segments = parts.segments();
  change(parts.directory);
  return load(assemble(parts.header, encode(parts.directory), segments));
}

// parse_header() of a header that says so, in a file of `file_bytes`.
Status parse(int64_t directory_bytes, int64_t file_bytes) {
  BundleHeader header;
  header.directory_bytes = directory_bytes;
  header.segment_base = segment_base_for(directory_bytes);
  header.file_bytes = file_bytes;
  return parse_header(encode_header(header, {}), file_bytes, "test").status();
}

// The bytes of a bundle, of which the n-th read fails.
class FailingSource : public ByteSource {
 public:
  FailingSource(std::span<const uint8_t> bytes, int failing_read)
      : bytes_(bytes), reads_left_(failing_read) {}
  const std::string& name() const override { return name_; }
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  Status read_at(int64_t offset, std::span<uint8_t> out) override {
    // All the bytes are there: whoever overlooks the error finds nothing else wrong.
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
    if (reads_left_-- == 0) return Status::error(StatusCode::kIo, "the disk is gone");
    return {};
  }

 private:
  std::span<const uint8_t> bytes_;
  int reads_left_;
  const std::string name_ = "failing";
};

// Opens, verifies and reads every section; returns the first error.
Status read_everything(std::unique_ptr<ByteSource> source) {
  FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<Bundle> bundle, Bundle::open(std::move(source), {}));
  for (const SectionEntry& section : bundle->sections()) {
    FLEXQ_ASSIGN_OR_RETURN(const HostBuffer bytes, bundle->read_section(section.kind));
    CHECK(bytes.size() > 0);
  }
  ThreadPool pool(1);
  return bundle->verify(pool, {});
}

std::unique_ptr<Bundle> open_tiny(const Bytes& bytes) {
  auto bundle = Bundle::open(make_memory_source(bytes), {});
  REQUIRE_MESSAGE(bundle.ok(), bundle.status().message());
  return std::move(bundle).value();
}

// A directory of `n_entries` evidences that share a list of 1,024 figures, and `n_single` more that
// share one of a single figure.
Bytes directory_with_shared_figures(size_t n_entries, size_t n_single) {
  using flatbuffers::Offset;
  flatbuffers::FlatBufferBuilder builder;
  const auto text = builder.CreateString("x");
  const auto rope = fb::CreateRope(builder);
  const auto config = fb::CreateModelConfig(builder, 1, 1, 1, 1, 1, 1, 1, 1, 1.0f, rope);
  const auto quantization = fb::CreateQuantization(builder, text, 128);
  const auto tensors = builder.CreateVector(std::vector<Offset<fb::Tensor>>());
  const auto sections = builder.CreateVector(std::vector<Offset<fb::Section>>());
  const auto features = builder.CreateVector(std::vector<Offset<flatbuffers::String>>());
  const auto generation =
      fb::CreateGeneration(builder, 1, builder.CreateVector(std::vector<int32_t>()));
  const auto figures = builder.CreateVector(std::vector<float>(1024, 0.5f));
  const auto entry = fb::CreateEvidence(builder, text, text, 1.0, figures);
  const auto figure = builder.CreateVector(std::vector<float>(1, 0.5f));
  const auto single = fb::CreateEvidence(builder, text, text, 1.0, figure);
  std::vector<Offset<fb::Evidence>> entries(n_entries, entry);
  entries.insert(entries.end(), n_single, single);
  const auto evidence = builder.CreateVector(entries);
  const auto pairs = builder.CreateVector(std::vector<Offset<fb::KeyValue>>());
  const auto provenance = fb::CreateProvenance(builder, text, text, text, evidence, pairs);
  fb::FinishBundleBuffer(builder, fb::CreateBundle(builder, features, config, quantization, tensors,
                                                   sections, generation, 0, provenance));
  return Bytes(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
}

}  // namespace

TEST_CASE("T3_limits: figures of evidence") {
  CHECK(decode_directory(directory_with_shared_figures(1024, 0), "test").ok());
  check_refused(decode_directory(directory_with_shared_figures(1024, 1), "test").status(),
                StatusCode::kLimitExceeded,
                "figures of evidence of 1048577 entries, expected at most 1048576");
}

TEST_CASE("T3_limits: a list beyond its limit is not copied") {
  const Bytes directory = directory_with_shared_figures(0, 200'000);
  const int64_t live_bytes = heap_use().live_bytes;
  reset_heap_peak();
  check_refused(decode_directory(directory, "test").status(), StatusCode::kLimitExceeded,
                "evidence of 200000 entries, expected at most 65536");
  CHECK(heap_use().peak_bytes - live_bytes < 100'000);
}

TEST_CASE("T3_limits: of several violations the first is told") {
  const std::string long_name(257, 'n');
  const auto limit = StatusCode::kLimitExceeded;
  check_refused(load_changed([&](BundleDirectory& d) {
                  d.policy = long_name;
                  d.provenance.tool_version = long_name;
                  d.config.eos_token_ids.assign(3, 2);
                }),
                limit, "policy name of 257 bytes");
  check_refused(load_changed([&](BundleDirectory& d) {
                  d.required_features.assign(65, "moe");
                  d.config.eos_token_ids.assign(17, 2);
                }),
                limit, "list of features of 65 entries");
  check_refused(load_changed([&](BundleDirectory& d) {
                  d.required_features = {"moe", long_name, "experts"};
                }),
                StatusCode::kUnsupportedVersion, "requires feature 'moe'");

  // A hash of the wrong length behind a name that is too long.
  BundleParts parts = take_apart(tiny_bundle());
  parts.directory.provenance.calibration.emplace();
  const auto with_short_hash = [&] {
    Bytes directory = encode(parts.directory);
    const auto* sha256 =
        fb::GetBundle(directory.data())->provenance()->calibration()->text_sha256();
    const uint32_t length = 31;
    std::memcpy(directory.data() + (reinterpret_cast<const uint8_t*>(sha256) - directory.data()),
                &length, 4);
    return load(assemble(parts.header, directory, parts.segments()));
  };
  check_refused(with_short_hash(), StatusCode::kCorrupt, "calibration text hash of 31 bytes");
  parts.directory.policy = long_name;
  check_refused(with_short_hash(), limit, "policy name of 257 bytes");
}

TEST_CASE("T3_limits: the header is judged before anything that it points to") {
  CHECK(parse(8, 8192).ok());
  CHECK(parse(kMaxDirectoryBytes, segment_base_for(kMaxDirectoryBytes)).ok());
  check_refused(parse(7, 8192), StatusCode::kCorrupt, "directory of 7 bytes");
  check_refused(parse(kMaxDirectoryBytes + 1, segment_base_for(kMaxDirectoryBytes + 1)),
                StatusCode::kLimitExceeded, "directory of 67108865 bytes");
  CHECK(parse(100, 4096).ok());  // no segments
  check_refused(parse(100, 4095), StatusCode::kCorrupt,
                "segments begin at 4096 but the file ends at 4095");
}

TEST_CASE("every failing read of a source is the error of the load") {
  int n_reads = 0;
  for (; n_reads < 1000; ++n_reads) {
    const Status status = read_everything(std::make_unique<FailingSource>(tiny_bundle(), n_reads));
    if (status.ok()) break;
    check_refused(status, StatusCode::kIo, "the disk is gone");
  }
  // Header, front, the padding of each segment, each section, each chunk.
  const size_t n_chunks = take_apart(tiny_bundle()).chunks().size();
  CHECK(n_reads == static_cast<int>(2 + n_chunks + 2 + n_chunks));
}

TEST_CASE("every failing host buffer is the error of the load") {
  int n_buffers = 0;
  for (; n_buffers < 1000; ++n_buffers) {
    int left = n_buffers;
    set_allocation_gate(
        [](int64_t, void* user_data) { return (*static_cast<int*>(user_data))-- != 0; }, &left);
    const Status status = read_everything(make_memory_source(tiny_bundle()));
    set_allocation_gate(nullptr, nullptr);
    if (status.ok()) break;
    check_refused(status, StatusCode::kOutOfMemory, "");
  }
  CHECK(n_buffers > 4);  // the front, the sections, stored and decoded chunks
}

TEST_CASE("tensors, pieces and sections outside the bundle") {
  const std::unique_ptr<Bundle> bundle = open_tiny(tiny_bundle());
  BundleParts parts = take_apart(tiny_bundle());
  const int64_t n_tensors = static_cast<int64_t>(parts.directory.tensors.size());
  PieceBuffer buffer;
  WeightPiece piece;
  for (const int64_t tensor :
       {int64_t{-1}, n_tensors, n_tensors + 1, std::numeric_limits<int64_t>::min(),
        std::numeric_limits<int64_t>::max()}) {
    CHECK(bundle->n_pieces(tensor) == 0);
    CHECK(bundle->stored_bytes(tensor) == 0);
    CHECK(bundle->decoded_bytes(tensor) == 0);
    CHECK(bundle->read_piece(tensor, 0, buffer, &piece).code() == StatusCode::kInvalidArgument);
  }
  for (int64_t t = 0; t < n_tensors; ++t) {
    const ChunkEntry& chunk = parts.directory.tensors[static_cast<size_t>(t)].chunks[0];
    CHECK(bundle->n_pieces(t) == 1);
    CHECK(bundle->stored_bytes(t) == chunk.stored_bytes);
    CHECK(bundle->decoded_bytes(t) == chunk.raw_bytes);
    CHECK(bundle->read_piece(t, 0, buffer, &piece).ok());
    for (const int64_t p : {-1, 1})
      CHECK(bundle->read_piece(t, p, buffer, &piece).code() == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("bits per weight count the quantized linear layers, or all where none is quantized") {
  BundleParts parts = take_apart(tiny_bundle());
  const auto expected = [&](bool quantized) {
    double bits = 0;
    double weights = 0;
    for (const TensorEntry& entry : parts.directory.tensors) {
      const TensorSpec& spec = entry.tensor.spec;
      if (spec.role != TensorRole::kLinear || is_grouped(entry.tensor.format) != quantized)
        continue;
      bits += 8.0 * static_cast<double>(entry.chunks[0].stored_bytes);
      weights += static_cast<double>(spec.rows * spec.cols);
    }
    return bits / weights;
  };
  CHECK(open_tiny(tiny_bundle())->linear_bits_per_weight() == expected(true));

  BundleContents contents = tiny_contents();
  for (StoredTensor& tensor : contents.tensors) {
    if (!is_grouped(tensor.format)) continue;
    tensor.format = WeightFormat::kF16;
    tensor.activation_bits = 16;
    tensor.scale_multiplier = 1;
  }
  const Bytes dense = write_to_bytes(contents);
  parts = take_apart(dense);
  CHECK(open_tiny(dense)->linear_bits_per_weight() == expected(false));
}

TEST_CASE("a damaged section is refused by name when it alone is read") {
  const BundleParts parts = take_apart(tiny_bundle());
  const SectionEntry& section = parts.directory.sections[0];
  Bytes damaged = tiny_bundle();
  damaged[static_cast<size_t>(parts.header.segment_base + section.chunks[0].offset)] ^= 1;
  const auto read = open_tiny(damaged)->read_section(section.kind);
  check_refused(read.status(), StatusCode::kCorrupt,
                "section tokenizer: chunk 0: stored bytes do not have the stated SHA-256");
}

TEST_CASE("T3_limits: decoded bytes per stored byte") {
  // A section of one chunk of 16 MiB, which 512 stored bytes are enough for.
  const auto validate = [](int64_t stored_bytes) {
    BundleDirectory directory = take_apart(tiny_bundle()).directory;
    directory.sections.resize(1);
    directory.sections[0].chunks.assign(1, ChunkEntry{});
    ChunkEntry& chunk = directory.sections[0].chunks[0];
    const ChunkEntry& last = directory.tensors.back().chunks.back();
    chunk.offset = align_up(last.offset + last.stored_bytes, kSegmentAlignment);
    chunk.stored_bytes = stored_bytes;
    chunk.n_rows = chunk.raw_bytes = kMaxPieceBytes;
    chunk.codec = ChunkCodec::kZstd;
    const int64_t end = align_up(chunk.offset + stored_bytes, kSegmentAlignment);
    return validate_directory(&directory, end, {}, "test");
  };
  static_assert(kMaxPieceBytes / kMaxExpansion == 512);
  CHECK(validate(512).ok());
  check_refused(validate(511), StatusCode::kLimitExceeded,
                "511 stored bytes for 16777216 decoded, expected at least 512");
}

TEST_CASE("T3_limits: segments end where the file does") {
  BundleParts parts = take_apart(tiny_bundle());
  const ChunkEntry& last = *parts.chunks().back();
  const int64_t end = last.offset + last.stored_bytes;
  const auto validate = [&](int64_t segment_bytes) {
    BundleDirectory directory = parts.directory;
    return validate_directory(&directory, segment_bytes, {}, "test");
  };
  CHECK(validate(align_up(end, kSegmentAlignment)).ok());
  check_refused(validate(end - 1), StatusCode::kCorrupt,
                "ends at " + std::to_string(end) + ", beyond the segments'");
  check_refused(validate(end), StatusCode::kCorrupt, "size of all segments");
}

TEST_CASE("T3_limits: every figure of a calibration") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const MeasuredPrecision good{"auto", 0.5, 20.0, 0.01, 0.01};
  const auto load_calibration = [&](const std::function<void(BundleCalibration&)>& change) {
    return load_changed([&](BundleDirectory& d) {
      BundleCalibration& calibration = d.provenance.calibration.emplace();
      calibration.policies.assign(2, good);
      calibration.front.assign(2, good);
      change(calibration);
    });
  };
  CHECK(load_calibration([](BundleCalibration&) {}).ok());
  for (const double share : {0.0, 1.0})
    CHECK(load_calibration([&](BundleCalibration& c) { c.policies[1].a8_share = share; }).ok());
  struct Change {
    void (*set)(MeasuredPrecision&, double);
    std::vector<double> values;
    const char* fragment;
  };
  const Change changes[] = {
      {[](MeasuredPrecision& m, double x) { m.a8_share = x; }, {-0.5, 1.5, nan}, "share of 8-bit"},
      {[](MeasuredPrecision& m, double x) { m.perplexity = x; }, {nan, INFINITY}, "not finite"},
      {[](MeasuredPrecision& m, double x) { m.kl_divergence = x; }, {nan, INFINITY}, "not finite"},
      {[](MeasuredPrecision& m, double x) { m.expected_rise = x; }, {nan, INFINITY}, "not finite"},
  };
  for (const Change& change : changes)
    for (const double value : change.values)
      for (auto list : {&BundleCalibration::policies, &BundleCalibration::front})
        check_refused(
            load_calibration([&](BundleCalibration& c) { change.set((c.*list)[1], value); }),
            StatusCode::kCorrupt, change.fragment);
  check_refused(load_calibration([](BundleCalibration& c) { c.window_tokens = -1; }),
                StatusCode::kCorrupt, "calibration on 0 windows of -1 tokens");
  check_refused(load_calibration([](BundleCalibration& c) { c.n_windows = -1; }),
                StatusCode::kCorrupt, "calibration on -1 windows");
  CHECK(load_calibration([](BundleCalibration& c) { c.window_tokens = c.n_windows = 0; }).ok());
}

}  // namespace flexq::test
