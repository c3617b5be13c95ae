// T3: one accept and one reject at each limit, and every rule of validation broken once. Hashes are
// right everywhere, so that it is the rule itself that refuses.
#include <doctest/doctest.h>
#include <zstd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <utility>

#include "base/checked.h"
#include "bundle/bundle_parts.h"
#include "bundle/bundle_reader.h"
#include "bundle/bundle_validate.h"
#include "bundle/chunk_codec.h"
#include "bundle/directory_schema.h"

namespace flexq::test {
namespace {

// Tensors of the tiny bundle.
constexpr size_t kEmbedding = 0;  // BF16
constexpr size_t kNorm = 1;       // F32
constexpr size_t kQuery = 2;      // 6-bit
constexpr size_t kValue = 4;      // 8-bit, in groups
constexpr size_t kOutput = 5;     // F16
constexpr size_t kLmHead = 11;    // 8-bit, by rows

using Change = std::function<void(BundleDirectory&)>;

Status load_changed(const Change& change, const BundleLimits& limits = {}) {
  BundleParts parts = take_apart(tiny_bundle());
  const Bytes segments = parts.segments();
  change(parts.directory);
  return load(assemble(parts.header, encode(parts.directory), segments), limits);
}

void check_accepted(const Status& status) {
  CHECK_MESSAGE(status.ok(), status.message());
}

// The code, and that the message speaks of the thing that is wrong.
void check_refused(const Status& status, StatusCode code, const std::string& fragment) {
  CHECK(status.code() == code);
  const std::string message = status.message();
  CHECK_MESSAGE(message.find(fragment) != std::string::npos, message << " lacks: " << fragment);
}

void accept(const Change& change) {
  check_accepted(load_changed(change));
}
void refuse(const Change& change, StatusCode code, const std::string& fragment) {
  check_refused(load_changed(change), code, fragment);
}

// The tiny bundle with other stored bytes for one chunk (they are all single-chunk segments).
Status load_with_stored(size_t chunk, const Bytes& stored, ChunkCodec codec) {
  BundleParts parts = take_apart(tiny_bundle());
  parts.chunks()[chunk]->codec = codec;
  parts.stored[chunk] = stored;
  parts.place_chunks();
  return load(assemble(parts));
}

Bytes decoded_chunk(size_t chunk) {
  BundleParts parts = take_apart(tiny_bundle());
  const ChunkEntry& entry = *parts.chunks()[chunk];
  if (entry.codec == ChunkCodec::kRaw) return parts.stored[chunk];
  Bytes raw(static_cast<size_t>(entry.raw_bytes));
  const size_t n = ZSTD_decompress(raw.data(), raw.size(), parts.stored[chunk].data(),
                                   parts.stored[chunk].size());
  REQUIRE(n == raw.size());
  return raw;
}

Bytes compressed(const Bytes& raw) {
  Bytes frame(ZSTD_compressBound(raw.size()));
  frame.resize(ZSTD_compress(frame.data(), frame.size(), raw.data(), raw.size(), 3));
  return frame;
}

Status load_with_value(size_t chunk, size_t at, const Bytes& value) {
  Bytes raw = decoded_chunk(chunk);
  std::copy(value.begin(), value.end(), raw.begin() + static_cast<ptrdiff_t>(at));
  return load_with_stored(chunk, raw, ChunkCodec::kRaw);
}

// A verifiable directory whose provenance lists one table `n_entries` times.
Bytes directory_with_shared_table(size_t n_entries) {
  using flatbuffers::Offset;
  flatbuffers::FlatBufferBuilder builder;
  const auto text = builder.CreateString("x");
  const auto rope = fb::CreateRope(builder);
  const auto config = fb::CreateModelConfig(builder, 1, 1, 1, 1, 1, 1, 1, 1, 1.0f, rope);
  const auto quantization = fb::CreateQuantization(builder, text, 128);
  const auto none = builder.CreateVector(std::vector<Offset<fb::Tensor>>());
  const auto no_sections = builder.CreateVector(std::vector<Offset<fb::Section>>());
  const auto no_features = builder.CreateVector(std::vector<Offset<flatbuffers::String>>());
  const auto no_evidence = builder.CreateVector(std::vector<Offset<fb::Evidence>>());
  const auto no_ids = builder.CreateVector(std::vector<int32_t>());
  const auto generation = fb::CreateGeneration(builder, 1, no_ids);
  const auto entry = fb::CreateKeyValue(builder, text, text);
  const auto entries = builder.CreateVector(std::vector<Offset<fb::KeyValue>>(n_entries, entry));
  const auto provenance = fb::CreateProvenance(builder, text, text, text, no_evidence, entries);
  fb::FinishBundleBuffer(builder, fb::CreateBundle(builder, no_features, config, quantization, none,
                                                   no_sections, generation, 0, provenance));
  return Bytes(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
}

// A tiny bundle with a byte string of the header replaced and the hash made right again.
Status load_with_header(size_t at, const Bytes& value) {
  Bytes bundle = tiny_bundle();
  std::copy(value.begin(), value.end(), bundle.begin() + static_cast<ptrdiff_t>(at));
  if (at < 64) rehash(bundle);
  return load(bundle);
}

// One section of the given chunk sizes, validated without any file behind it.
Status validate_section(const std::vector<int64_t>& chunk_bytes) {
  BundleDirectory directory = take_apart(tiny_bundle()).directory;
  directory.sections.resize(1);
  directory.sections[0].chunks.clear();
  int64_t cursor = align_up(directory.tensors.back().chunks.back().offset + 1, kSegmentAlignment);
  int64_t row = 0;
  for (const int64_t bytes : chunk_bytes) {
    ChunkEntry& chunk = directory.sections[0].chunks.emplace_back();
    chunk.offset = cursor;
    chunk.stored_bytes = std::max(kChunkAlignment, bytes / kMaxExpansion);
    chunk.codec = ChunkCodec::kZstd;
    chunk.row_begin = row;
    chunk.n_rows = chunk.raw_bytes = bytes;
    row = checked_add(row, bytes).value_or(INT64_MAX);
    cursor = align_up(cursor + chunk.stored_bytes, kChunkAlignment);
  }
  return validate_directory(&directory, align_up(cursor, kSegmentAlignment), {}, "test");
}

}  // namespace

TEST_CASE("T3_limits: versions and header fields") {
  const auto corrupt = StatusCode::kCorrupt;
  const auto version = StatusCode::kUnsupportedVersion;
  check_accepted(load_with_header(6, {1, 0, 1, 0}));
  check_accepted(load_with_header(6, {7, 0, 1, 0}));  // newer, but format 1 readers will do
  check_refused(load_with_header(6, {3, 0, 2, 0}), version,
                "bundle of format 3 needs a reader of format 2, this is format 1");
  check_refused(load_with_header(6, {1, 0, 0, 0}), corrupt, "minimum reader version 0");
  check_refused(load_with_header(6, {0, 0, 1, 0}), corrupt, "format version 0");
  check_refused(load_with_header(0, {'G', 'G', 'U', 'F'}), corrupt, "not a FlexQ bundle");
  check_refused(load_with_header(10, {1}), corrupt, "flags 1, expected 0");
  check_refused(load_with_header(12, {0, 2}), corrupt, "header size 512, expected 256");
  check_refused(load_with_header(16, {0, 2}), corrupt, "directory offset 512, expected 256");
  check_refused(load_with_header(32, {0, 0, 1}), corrupt, "segment base 65536, expected 4096");
  check_refused(load_with_header(40, {1}), corrupt, "file size 65537, expected 65536");
  check_refused(load_with_header(48, {1}), corrupt, "reserved");
  check_refused(load_with_header(63, {1}), corrupt, "reserved");
  check_refused(load_with_header(64, {1, 2, 3}), corrupt, "SHA-256");
  check_refused(load_with_header(96, {1}), StatusCode::kSignature, "does not fit");
  check_refused(load_with_header(191, {1}), StatusCode::kSignature, "does not fit");
  check_refused(load_with_header(192, {1}), corrupt, "reserved");
  check_refused(load_with_header(255, {1}), corrupt, "reserved");
}

TEST_CASE("T3_limits: directory of 64 MiB") {
  BundleParts parts = take_apart(tiny_bundle());
  Bytes directory = encode(parts.directory);
  directory.resize(kMaxDirectoryBytes);  // a FlatBuffer may end with bytes that nothing refers to
  check_accepted(load(assemble(parts.header, directory, parts.segments())));
  directory.push_back(0);
  check_refused(load(assemble(parts.header, directory, parts.segments())),
                StatusCode::kLimitExceeded, "directory of 67108865 bytes");
  // The same at the Verifier, whose constructor would only assert.
  check_refused(verify_directory(directory, 16, 16, "test"), StatusCode::kLimitExceeded,
                "directory of 67108865 bytes");
  check_refused(load_with_header(24, {7, 0, 0, 0}), StatusCode::kCorrupt,
                "directory of 7 bytes, expected at least 8");
}

TEST_CASE("T3_limits: depth and tables of the FlatBuffers Verifier") {
  static_assert(kMaxDirectoryDepth == 16 && kMaxDirectoryTables == 262'144);
  // The schema has no recursive type: Bundle, Tensor, Chunk is as deep as it gets, so the limit of
  // 16 is shown with smaller numbers.
  const Bytes tiny = encode(take_apart(tiny_bundle()).directory);
  check_accepted(verify_directory(tiny, 3, kMaxDirectoryTables, "test"));
  check_refused(verify_directory(tiny, 2, kMaxDirectoryTables, "test"), StatusCode::kCorrupt,
                "not a valid FlatBuffer 'FQB1' within 2 levels");

  constexpr size_t kOtherTables = 6;
  const Bytes most = directory_with_shared_table(kMaxDirectoryTables - kOtherTables);
  check_accepted(verify_directory(most, kMaxDirectoryDepth, kMaxDirectoryTables, "test"));
  check_refused(decode_directory(most, "test").status(), StatusCode::kLimitExceeded,
                "provenance of 262138 entries");
  const Bytes more = directory_with_shared_table(kMaxDirectoryTables - kOtherTables + 1);
  check_refused(decode_directory(more, "test").status(), StatusCode::kCorrupt,
                "not a valid FlatBuffer");
}

TEST_CASE("T3_limits: tensors and sections") {
  BundleDirectory directory = take_apart(tiny_bundle()).directory;
  SectionEntry section = directory.sections[0];
  directory.sections.assign(static_cast<size_t>(kMaxSegments) - directory.tensors.size(), section);
  const auto most = decode_directory(encode(directory), "test");
  check_accepted(most.status());
  directory.sections.push_back(section);
  check_refused(decode_directory(encode(directory), "test").status(), StatusCode::kLimitExceeded,
                "list of tensors and sections of 65537 entries, expected at most 65536");

  const int64_t chunk = kSectionChunkBytes;
  const std::vector<int64_t> largest(static_cast<size_t>(kMaxSectionBytes / chunk), chunk);
  check_accepted(validate_section(largest));
  std::vector<int64_t> larger = largest;
  larger.push_back(1);
  check_refused(validate_section(larger), StatusCode::kLimitExceeded, "268435457 bytes");
  check_accepted(validate_section({kMaxPieceBytes}));
  check_refused(validate_section({kMaxPieceBytes + 1}), StatusCode::kLimitExceeded,
                "16777217 decoded bytes");
  check_refused(validate_section({}), StatusCode::kCorrupt, "no chunks");
  check_refused(validate_section({INT64_MAX, INT64_MAX}), StatusCode::kLimitExceeded, "expected");
  check_refused(validate_section({-1}), StatusCode::kLimitExceeded, "expected at most");
  refuse([](BundleDirectory& d) { d.sections[1].kind = d.sections[0].kind; }, StatusCode::kCorrupt,
         "present twice");
  refuse([](BundleDirectory& d) { d.sections[1].kind.clear(); }, StatusCode::kCorrupt,
         "without a name");
}

TEST_CASE("T3_limits: texts and lists of the directory") {
  const auto limit = StatusCode::kLimitExceeded;
  const std::string name(256, 'n');
  accept([&](BundleDirectory& d) { d.policy = name; });
  refuse([&](BundleDirectory& d) { d.policy = name + "n"; }, limit,
         "policy name of 257 bytes, expected at most 256");
  refuse([&](BundleDirectory& d) { d.tensors[3].tensor.spec.name = name; }, StatusCode::kCorrupt,
         "expected tensor model.layers.0.self_attn.k_proj.weight in its place");
  refuse([&](BundleDirectory& d) { d.tensors[3].tensor.spec.name = name + "n"; }, limit,
         "tensor name of 257 bytes");
  accept([&](BundleDirectory& d) { d.sections[1].kind = name; });
  refuse([&](BundleDirectory& d) { d.sections[1].kind = name + "n"; }, limit, "section kind");
  refuse([&](BundleDirectory& d) { d.policy = "\xC0\x80"; }, StatusCode::kCorrupt, "UTF-8");

  const std::string text(1 << 20, 't');
  accept([&](BundleDirectory& d) { d.chat_template = text; });
  refuse([&](BundleDirectory& d) { d.chat_template = text + "t"; }, limit, "chat template");
  accept([&](BundleDirectory& d) { d.provenance.source_config_json = text; });
  refuse([&](BundleDirectory& d) { d.provenance.source_config_json = text + "t"; }, limit,
         "config.json of 1048577 bytes");

  const std::string value(64 << 10, 'v');
  accept([&](BundleDirectory& d) { d.provenance.key_values.assign(256, {"k", "v"}); });
  refuse(
      [&](BundleDirectory& d) {
        d.provenance.key_values.assign(257, {"k", "v"});
      },
      limit, "provenance of 257 entries");
  accept([&](BundleDirectory& d) { d.provenance.key_values.assign(1, {name, value}); });
  refuse(
      [&](BundleDirectory& d) {
        d.provenance.key_values.assign(1, {name + "n", value});
      },
      limit, "provenance key");
  refuse(
      [&](BundleDirectory& d) {
        d.provenance.key_values.assign(1, {name, value + "v"});
      },
      limit, "provenance value");

  const BundleEvidence evidence{"t", "m", 1.0};
  accept([&](BundleDirectory& d) { d.provenance.evidence.assign(65'536, evidence); });
  refuse([&](BundleDirectory& d) { d.provenance.evidence.assign(65'537, evidence); }, limit,
         "evidence of 65537 entries");
  refuse(
      [&](BundleDirectory& d) {
        d.provenance.evidence.assign(1, {"t", "m", NAN});
      },
      StatusCode::kCorrupt, "m of t is not finite");
  refuse(
      [&](BundleDirectory& d) {
        d.provenance.evidence.assign(1, {"t", "m", 1.0, {0.5f, INFINITY}});
      },
      StatusCode::kCorrupt, "m of t is not finite");
  const std::vector<float> figures(1024, 0.5f);
  accept([&](BundleDirectory& d) { d.provenance.evidence.assign(1024, {"t", "m", 1.0, figures}); });

  BundleCalibration calibration;
  calibration.policies.assign(1024, {"auto", 0.5, 20.0, 0.01, 0.01});
  accept([&](BundleDirectory& d) { d.provenance.calibration = calibration; });
  const auto refuse_calibration = [&](auto change, StatusCode code, const char* message) {
    refuse(
        [&](BundleDirectory& d) {
          d.provenance.calibration = calibration;
          change(*d.provenance.calibration);
        },
        code, message);
  };
  refuse_calibration([](BundleCalibration& c) { c.policies.push_back(c.policies[0]); }, limit,
                     "list of measured policies of 1025 entries");
  refuse_calibration([](BundleCalibration& c) { c.front.assign(1025, c.policies[0]); }, limit,
                     "list of measured mixtures of 1025 entries");
  refuse_calibration([](BundleCalibration& c) { c.policies[3].a8_share = 1.5; },
                     StatusCode::kCorrupt, "share of 8-bit work of 'auto' is 1.5");
  refuse_calibration([](BundleCalibration& c) { c.policies[3].perplexity = NAN; },
                     StatusCode::kCorrupt, "a figure of 'auto' is not finite");
  refuse_calibration([](BundleCalibration& c) { c.n_windows = -1; }, StatusCode::kCorrupt,
                     "calibration on -1 windows");
  refuse_calibration([](BundleCalibration& c) { c.goal_value = INFINITY; }, StatusCode::kCorrupt,
                     "goal is not finite");

  refuse([&](BundleDirectory& d) { d.required_features.assign(64, "moe"); },
         StatusCode::kUnsupportedVersion, "requires feature 'moe'");
  refuse([&](BundleDirectory& d) { d.required_features.assign(65, "moe"); }, limit,
         "list of features of 65 entries");
  accept([&](BundleDirectory& d) { d.config.eos_token_ids.assign(16, 2); });
  refuse([&](BundleDirectory& d) { d.config.eos_token_ids.assign(17, 2); }, limit,
         "end-of-text tokens of 17");
}

TEST_CASE("T3_limits: config, dimensions and decoded size") {
  accept([](BundleDirectory& d) { d.config.context_tokens = kMaxContext; });
  refuse([](BundleDirectory& d) { d.config.context_tokens = kMaxContext + 1; },
         StatusCode::kLimitExceeded, "context_tokens");
  refuse([](BundleDirectory& d) { d.config.n_layers = 0; }, StatusCode::kCorrupt, "n_layers");
  refuse([](BundleDirectory& d) { d.config.n_heads = 0; }, StatusCode::kCorrupt, "n_heads");
  refuse([](BundleDirectory& d) { d.config.rope.type = static_cast<RopeType>(3); },
         StatusCode::kLimitExceeded, "rope type");
  refuse([](BundleDirectory& d) { d.config.rms_norm_eps = NAN; }, StatusCode::kCorrupt, "eps");
  refuse([](BundleDirectory& d) { d.config.n_layers = 2; }, StatusCode::kCorrupt,
         "number of tensors is 12, expected 21");
  refuse([](BundleDirectory& d) { d.config.tied_embeddings = true; }, StatusCode::kCorrupt,
         "number of tensors is 12, expected 11");
  refuse([](BundleDirectory& d) { d.config.n_ff = 96; }, StatusCode::kCorrupt,
         "number of rows is 64, expected 96");
  refuse([](BundleDirectory& d) { d.group_size = 64; }, StatusCode::kCorrupt, "group size");

  BundleParts parts = take_apart(tiny_bundle());
  int64_t decoded = 0;
  for (const ChunkEntry* chunk : parts.chunks())
    decoded += chunk->raw_bytes;
  check_accepted(load(tiny_bundle(), {.max_decoded_bytes = decoded}));
  check_refused(load(tiny_bundle(), {.max_decoded_bytes = decoded - 1}), StatusCode::kLimitExceeded,
                "decoded bytes that the caller allows");
}

TEST_CASE("T3_limits: tensors are exactly those of the config") {
  const auto corrupt = StatusCode::kCorrupt;
  const auto change_tensor = [&](size_t i, const std::function<void(TensorEntry&)>& change,
                                 const std::string& fragment) {
    CAPTURE(fragment);
    refuse([&](BundleDirectory& d) { change(d.tensors[i]); }, corrupt, fragment);
  };
  refuse([](BundleDirectory& d) { std::swap(d.tensors[3], d.tensors[4]); }, corrupt,
         "expected tensor model.layers.0.self_attn.k_proj.weight in its place");
  refuse([](BundleDirectory& d) { d.tensors.pop_back(); }, corrupt, "number of tensors is 11");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.tensor.spec.role = TensorRole::kBias; }, "role");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.tensor.spec.layer = 1; }, "layer is 1");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.rank = 3; }, "rank is 3, expected 2");
  change_tensor(
      kNorm, [](TensorEntry& t) { t.rank = 2; }, "rank is 2, expected 1");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.tensor.spec.cols = INT64_MAX; }, "columns");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.tensor.spec.rows = -64; }, "rows is -64");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.tensor.format = static_cast<WeightFormat>(6); },
      "unknown weight format 6");
  change_tensor(
      kEmbedding, [](TensorEntry& t) { t.tensor.format = WeightFormat::kInt6Group; },
      "outside a linear layer");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.bits = 4; }, "bits is 4, expected 6");
  change_tensor(
      kNorm, [](TensorEntry& t) { t.bits = 16; }, "bits is 16, expected 32");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.group_size = 64; }, "group size is 64");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.symmetric = false; }, "symmetric");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.scale_type = ScaleType::kNone; }, "scale type");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.layout = static_cast<WeightLayout>(1); }, "layout is 1");
  change_tensor(
      kQuery, [](TensorEntry& t) { t.tensor.activation_bits = 7; }, "6, 8 or 16");
  change_tensor(
      kOutput, [](TensorEntry& t) { t.tensor.activation_bits = 8; }, "expected 16");
  change_tensor(
      kOutput, [](TensorEntry& t) { t.tensor.scale_multiplier = 2.0f; }, "scale multiplier is 2");
  for (const float bad : {0.0f, -1.0f, 3.0f, 0x1p106f, 0x1p-106f, INFINITY, NAN})
    change_tensor(
        kQuery, [&](TensorEntry& t) { t.tensor.scale_multiplier = bad; }, "scale multiplier");
  for (const float good : {0x1p105f, 0x1p-105f})
    accept([&](BundleDirectory& d) { d.tensors[kQuery].tensor.scale_multiplier = good; });
}

TEST_CASE("T3_limits: 8-bit formats have their roles and figures") {
  struct Rule {
    size_t tensor;
    std::function<void(TensorEntry&)> change;
    std::string fragment;
  };
  const auto to_format = [](WeightFormat format) {
    return [format](TensorEntry& t) {
      const std::vector<ChunkEntry> chunks = t.chunks;
      t.tensor.format = format;
      t = make_tensor_entry(t.tensor);
      t.chunks = chunks;
    };
  };
  const std::string not_linear = "grouped weights outside a linear layer";
  const std::string not_rows = "8-bit rows outside the embedding and lm_head";
  const auto bits = [](int32_t n) { return [n](TensorEntry& t) { t.bits = n; }; };
  const auto group = [](int32_t n) { return [n](TensorEntry& t) { t.group_size = n; }; };
  const auto activation = [](int32_t n) {
    return [n](TensorEntry& t) { t.tensor.activation_bits = n; };
  };
  const auto no_scales = [](TensorEntry& t) { t.scale_type = ScaleType::kNone; };
  const auto multiplier = [](TensorEntry& t) { t.tensor.scale_multiplier = 3.0f; };
  const Rule rules[] = {
      {kEmbedding, to_format(WeightFormat::kInt8Group), not_linear},
      {kNorm, to_format(WeightFormat::kInt8Group), not_linear},
      {kLmHead, to_format(WeightFormat::kInt8Group), not_linear},
      {kLmHead, to_format(WeightFormat::kInt6Group), not_linear},
      {kQuery, to_format(WeightFormat::kInt8Row), not_rows},
      {kValue, to_format(WeightFormat::kInt8Row), not_rows},
      {kNorm, to_format(WeightFormat::kInt8Row), not_rows},
      {kValue, bits(6), "bits is 6, expected 8"},
      {kLmHead, bits(6), "bits is 6, expected 8"},
      {kLmHead, bits(16), "bits is 16, expected 8"},
      {kValue, group(0), "group size is 0, expected 128"},
      {kValue, group(64), "group size is 64, expected 128"},
      {kLmHead, group(128), "group size is 128, expected 0"},
      {kLmHead, group(64), "group size is 64, expected 0"},
      {kValue, no_scales, "scale type"},
      {kLmHead, no_scales, "scale type"},
      {kValue, activation(7), "activation bits are 7, expected 6, 8 or 16"},
      {kLmHead, activation(8), "activation bits are 8, expected 16"},
      {kLmHead, activation(6), "activation bits are 6, expected 16"},
      {kValue, multiplier, "scale multiplier is 3, expected a power of two"},
      {kLmHead, multiplier, "scale multiplier is 3, expected a power of two"},
      // Right in itself, but of another size than its chunk. 6 and 8 bits decode to the same size:
      // there the codes tell.
      {kEmbedding, to_format(WeightFormat::kInt8Row), "decoded size is 4096, expected 2112"},
      {kValue, to_format(WeightFormat::kInt6Group), "code outside [-32, 31]"},
  };
  for (const Rule& rule : rules) {
    CAPTURE(rule.tensor);
    refuse([&](BundleDirectory& d) { rule.change(d.tensors[rule.tensor]); }, StatusCode::kCorrupt,
           rule.fragment);
  }
  accept([&](BundleDirectory& d) { to_format(WeightFormat::kInt8Group)(d.tensors[kQuery]); });
  for (const int32_t n : {6, 8, 16})
    accept([&](BundleDirectory& d) { activation(n)(d.tensors[kValue]); });
}

TEST_CASE("T3_limits: chunks follow each other and cover the rows") {
  const auto corrupt = StatusCode::kCorrupt;
  const auto change_chunk = [&](const std::function<void(ChunkEntry&)>& change,
                                const std::string& fragment) {
    CAPTURE(fragment);
    refuse([&](BundleDirectory& d) { change(d.tensors[kQuery].chunks[0]); }, corrupt, fragment);
  };
  change_chunk([](ChunkEntry& c) { c.offset -= 64; }, "chunk 0: offset");  // overlap
  change_chunk([](ChunkEntry& c) { c.offset += 64; }, "chunk 0: offset");  // hole
  change_chunk([](ChunkEntry& c) { c.offset += 1; }, "chunk 0: offset");   // alignment
  change_chunk([](ChunkEntry& c) { c.offset = INT64_MIN; }, "chunk 0: offset");
  change_chunk([](ChunkEntry& c) { c.raw_bytes += 1; }, "decoded size is 4225, expected 4224");
  change_chunk([](ChunkEntry& c) { c.stored_bytes = 0; }, "stored size is 0");
  change_chunk([](ChunkEntry& c) { c.stored_bytes = -1; }, "stored size is -1");
  change_chunk([](ChunkEntry& c) { c.stored_bytes = INT64_MAX; }, "stored size");
  change_chunk([](ChunkEntry& c) { c.codec = ChunkCodec::kRaw; }, "stored size");
  change_chunk([](ChunkEntry& c) { c.codec = static_cast<ChunkCodec>(2); }, "unknown codec 2");
  change_chunk([](ChunkEntry& c) { c.row_begin = 16; }, "first row is 16, expected 0");
  change_chunk([](ChunkEntry& c) { c.n_rows = 0; }, "0 rows, expected 1 to 64");
  change_chunk([](ChunkEntry& c) { c.n_rows = 65; }, "65 rows, expected 1 to 64");
  change_chunk([](ChunkEntry& c) { c.n_rows = INT64_MAX; }, "expected 1 to 64");
  change_chunk([](ChunkEntry& c) { c.sha256[5] ^= 1; }, "SHA-256");
  refuse([](BundleDirectory& d) { d.tensors[kQuery].chunks.clear(); }, corrupt, "no chunks");

  // Two chunks where there was one: right, on rows that are no multiple of 16, and with rows
  // missing between them or at the end.
  const Bytes raw = decoded_chunk(kOutput);  // F16, 64 rows of 128 bytes
  const auto split = [&](int64_t first_rows, int64_t second_begin, int64_t second_rows) {
    BundleParts parts = take_apart(tiny_bundle());
    std::vector<ChunkEntry>& chunks = parts.directory.tensors[kOutput].chunks;
    chunks.assign(2, ChunkEntry{});
    chunks[0].n_rows = first_rows;
    chunks[1].row_begin = second_begin;
    chunks[1].n_rows = second_rows;
    const Bytes first(raw.begin(), raw.begin() + first_rows * 128);
    const Bytes second(raw.begin() + second_begin * 128,
                       raw.begin() + (second_begin + second_rows) * 128);
    chunks[0].raw_bytes = static_cast<int64_t>(first.size());
    chunks[1].raw_bytes = static_cast<int64_t>(second.size());
    std::vector<Bytes> stored;
    for (size_t i = 0; i < parts.stored.size(); ++i) {
      stored.push_back(i == kOutput ? first : parts.stored[i]);
      if (i == kOutput) stored.push_back(second);
    }
    parts.stored = std::move(stored);
    parts.place_chunks();
    return load(assemble(parts));
  };
  check_accepted(split(16, 16, 48));
  check_refused(split(8, 8, 56), corrupt, "8 rows, expected a multiple of 16");
  check_refused(split(16, 32, 32), corrupt, "first row is 32, expected 16");
  check_refused(split(16, 16, 32), corrupt, "number of rows in chunks is 48, expected 64");

  BundleParts parts = take_apart(tiny_bundle());
  Bytes longer = parts.segments();
  longer.resize(longer.size() + kSegmentAlignment);
  check_refused(load(assemble(parts.header, encode(parts.directory), longer)), corrupt,
                "size of all segments");
}

TEST_CASE("T3_limits: length of a hash") {
  BundleParts parts = take_apart(tiny_bundle());
  for (const uint32_t length : {31u, 33u}) {
    Bytes directory = encode(parts.directory);
    const fb::Bundle* bundle = fb::GetBundle(directory.data());
    const auto* sha256 = bundle->tensors()->Get(0)->chunks()->Get(0)->sha256();
    const ptrdiff_t at = reinterpret_cast<const uint8_t*>(sha256) - directory.data();
    std::memcpy(directory.data() + at, &length, 4);
    check_refused(load(assemble(parts.header, directory, parts.segments())), StatusCode::kCorrupt,
                  "hash of " + std::to_string(length) + " bytes, expected 32");
  }
}

TEST_CASE("T3_limits: padding is zero") {
  BundleParts parts = take_apart(tiny_bundle());
  const Bytes directory = encode(parts.directory);
  const Bytes segments = parts.segments();
  const ChunkEntry& chunk = parts.directory.tensors[kQuery].chunks[0];
  REQUIRE(chunk.stored_bytes % kChunkAlignment != 0);
  const auto with_byte = [&](int64_t at) {
    Bytes changed = segments;
    changed[static_cast<size_t>(at)] = 1;
    return load(assemble(parts.header, directory, changed));
  };
  const int64_t end = chunk.offset + chunk.stored_bytes;
  check_refused(with_byte(end), StatusCode::kCorrupt, "q_proj.weight: chunk 0: padding");
  check_refused(with_byte(align_up(end, kChunkAlignment) - 1), StatusCode::kCorrupt, "padding");
  check_refused(with_byte(align_up(end, kChunkAlignment)), StatusCode::kCorrupt,
                "padding of the segment");
  check_refused(with_byte(align_up(end, kSegmentAlignment) - 1), StatusCode::kCorrupt,
                "padding of the segment");
  check_refused(with_byte(static_cast<int64_t>(segments.size()) - 1), StatusCode::kCorrupt,
                "padding of the segment");
  Bytes bundle = tiny_bundle();
  bundle[static_cast<size_t>(parts.header.segment_base) - 1] = 1;
  check_refused(load(bundle), StatusCode::kCorrupt, "padding after the directory");
  bundle = tiny_bundle();
  bundle[static_cast<size_t>(kBundleHeaderBytes + parts.header.directory_bytes)] = 1;
  check_refused(load(bundle), StatusCode::kCorrupt, "padding after the directory");
}

TEST_CASE("T3_limits: zstd frames") {
  const auto corrupt = StatusCode::kCorrupt;
  const auto zstd = ChunkCodec::kZstd;
  const Bytes raw = decoded_chunk(kQuery);
  const Bytes frame = compressed(raw);
  check_accepted(load_with_stored(kQuery, frame, zstd));
  check_accepted(load_with_stored(kQuery, raw, ChunkCodec::kRaw));

  Bytes longer = raw;
  longer.push_back(0);
  check_refused(load_with_stored(kQuery, compressed(longer), zstd), corrupt,
                "declares 4225 bytes, expected 4224");
  const Bytes shorter(raw.begin(), raw.end() - 1);
  check_refused(load_with_stored(kQuery, compressed(shorter), zstd), corrupt,
                "declares 4223 bytes, expected 4224");

  Bytes unknown_size(ZSTD_compressBound(raw.size()));
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
  unknown_size.resize(
      ZSTD_compress2(context, unknown_size.data(), unknown_size.size(), raw.data(), raw.size()));
  ZSTD_freeCCtx(context);
  check_refused(load_with_stored(kQuery, unknown_size, zstd), corrupt, "does not declare its size");

  const Bytes empty_frame = compressed({});
  Bytes two_frames(frame.size() + empty_frame.size());
  std::copy(frame.begin(), frame.end(), two_frames.begin());
  std::copy(empty_frame.begin(), empty_frame.end(),
            two_frames.begin() + static_cast<ptrdiff_t>(frame.size()));
  check_refused(load_with_stored(kQuery, two_frames, zstd), corrupt, "does not fill its chunk");
  Bytes trailing = frame;
  trailing.push_back(0);
  check_refused(load_with_stored(kQuery, trailing, zstd), corrupt, "does not fill its chunk");
  const Bytes cut(frame.begin(), frame.end() - 1);
  check_refused(load_with_stored(kQuery, cut, zstd), corrupt, "does not fill its chunk");
  const Bytes skippable = {0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0};
  check_refused(load_with_stored(kQuery, skippable, zstd), corrupt, "not a zstd frame");
  const Bytes legacy = {0x27, 0xB5, 0x2F, 0xFD, 0, 0, 0, 0};  // zstd 0.7
  check_refused(load_with_stored(kQuery, legacy, zstd), corrupt, "not a zstd frame");
  check_refused(load_with_stored(kQuery, {0x28}, zstd), corrupt, "not a zstd frame");
  Bytes damaged = frame;
  for (size_t i = 12; i < 40; ++i)
    damaged[i] ^= 0x55;
  check_refused(load_with_stored(kQuery, damaged, zstd), corrupt, "chunk 0: zstd frame");
}

TEST_CASE("T3_limits: values") {
  const auto corrupt = StatusCode::kCorrupt;
  check_accepted(load_with_value(kQuery, 65, {31}));
  check_accepted(load_with_value(kQuery, 65, {0xE0}));  // -32
  const std::string code = "q_proj.weight: chunk 0: row 1, column 1: code outside [-32, 31]";
  check_refused(load_with_value(kQuery, 65, {32}), corrupt, code);
  check_refused(load_with_value(kQuery, 65, {0xDF}), corrupt, code);  // -33
  check_refused(load_with_value(kQuery, 65, {0x80}), corrupt, code);

  const size_t scale_at = 64 * 64 + 2 * 3;  // of row 3
  const std::string scale = "row 3, group 0: scale is negative or not finite";
  check_accepted(load_with_value(kQuery, scale_at, {0, 0}));
  check_accepted(load_with_value(kQuery, scale_at, {0xFF, 0x7B}));              // 65504
  check_refused(load_with_value(kQuery, scale_at, {0, 0x7C}), corrupt, scale);  // infinity
  check_refused(load_with_value(kQuery, scale_at, {1, 0x7E}), corrupt, scale);  // NaN
  check_refused(load_with_value(kQuery, scale_at, {0, 0xBC}), corrupt, scale);  // -1

  // Every byte is an 8-bit code; -128 is read, though the quantizer never writes it.
  for (const uint8_t any : {0x80, 0x7F, 0x20, 0xDF}) {
    check_accepted(load_with_value(kValue, 65, {any}));
    check_accepted(load_with_value(kLmHead, 65, {any}));
  }
  const size_t scale_8_at = 32 * 64 + 2 * 3;  // of row 3, in both
  check_accepted(load_with_value(kValue, scale_8_at, {0xFF, 0x7B}));
  check_accepted(load_with_value(kLmHead, scale_8_at, {0, 0}));
  for (const Bytes& bad : {Bytes{0, 0x7C}, Bytes{1, 0x7E}, Bytes{0, 0xBC}, Bytes{0, 0x80}}) {
    check_refused(load_with_value(kValue, scale_8_at, bad), corrupt, scale);
    check_refused(load_with_value(kLmHead, scale_8_at, bad), corrupt, scale);
  }

  const std::string dense = "NaN or infinity";
  check_refused(load_with_value(kNorm, 8, {0, 0, 0x80, 0x7F}), corrupt, "row 0, column 2: NaN");
  check_refused(load_with_value(kNorm, 8, {1, 0, 0x80, 0xFF}), corrupt, dense);
  check_accepted(load_with_value(kNorm, 8, {0xFF, 0xFF, 0x7F, 0x7F}));
  check_refused(load_with_value(kOutput, 130, {0, 0xFC}), corrupt, "row 1, column 1: NaN");
  check_accepted(load_with_value(kOutput, 130, {0xFF, 0xFB}));
  check_refused(load_with_value(kEmbedding, 2, {0xC0, 0x7F}), corrupt, "row 0, column 1: NaN");
  check_accepted(load_with_value(kEmbedding, 2, {0x7F, 0x7F}));
}

}  // namespace flexq::test
