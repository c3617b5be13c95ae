// T4: the classes of bugs that other loaders had, one test case each, as crafted files with right
// hashes. Some classes are tested where their code is: one accept and one reject at every limit and
// every rule of the directory in tests/bundle (T3_limits: ranks, roles, formats, offsets, zstd
// frames); parameters of callers in tests/api; memory that a kernel leaves unwritten by T18; the
// work of tokenizers on hostile texts by T23.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>

#include "base/byte_source.h"
#include "base/checked.h"
#include "base/memory.h"
#include "bundle/bundle_parts.h"
#include "bundle/bundle_reader.h"
#include "bundle/chunk_codec.h"
#include "reliability/allocation_faults.h"
#include "reliability/tiny_model.h"
#include "support/c_handles.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// What a refused file may cost at most, whatever it declares. Decompression contexts and OpenSSL's
// tables are in it.
constexpr int64_t kRefusalBytes = 4 * kMiB;

struct Outcome {
  flexq_status status = FLEXQ_OK;
  std::string message;
  int64_t peak_bytes = 0;  // of the heap, large buffers included
};

std::string describe(const Outcome& outcome) {
  return std::string(flexq_status_name(outcome.status)) + ": " + outcome.message + " (" +
         std::to_string(outcome.peak_bytes) + " bytes)";
}

// Runs `work` and measures the memory it takes at its peak.
template <typename Work>
Outcome measured(Work&& work) {
  reset_heap_peak();
  reset_host_memory_peak();
  const int64_t heap_before = heap_use().live_bytes;
  const int64_t buffers_before = host_memory_counters().live_bytes;
  Outcome outcome;
  outcome.status = work();
  // In sanitizer builds the heap's counters see no large buffer.
  outcome.peak_bytes = std::max(heap_use().peak_bytes - heap_before,
                                host_memory_counters().peak_bytes - buffers_before);
  outcome.message = flexq_last_error();
  return outcome;
}

// Loads a model and uses it: a prompt and two tokens.
flexq_status load_and_use(flexq_source* source) {
  static const ModelOptionsHandle options = model_options(1);
  ModelHandle model;
  flexq_status status = create(model, flexq_model_load, source, options.get());
  if (status != FLEXQ_OK) return status;
  ContextHandle context;
  status = create(context, flexq_context_create, model.get(), nullptr);
  if (status != FLEXQ_OK) return status;
  GeneratorHandle generator;
  status = create(generator, flexq_generator_create, context.get(), nullptr);
  const int32_t prompt[] = {1, 5, 7};
  if (status == FLEXQ_OK) status = flexq_generator_start_tokens(generator.get(), prompt, 3);
  flexq_token_event event = {};
  event.struct_size = sizeof event;
  for (int i = 0; i < 2 && status == FLEXQ_OK && event.finish_reason == FLEXQ_FINISH_NONE; ++i)
    status = flexq_generator_next(generator.get(), &event);
  return status;
}

Outcome load_bundle(const Bytes& bytes) {
  return measured([&] {
    SourceHandle source;
    const flexq_status status =
        create(source, flexq_source_from_memory, bytes.data(), static_cast<int64_t>(bytes.size()));
    return status != FLEXQ_OK ? status : load_and_use(source.get());
  });
}

Outcome load_folder(const std::string& path) {
  return measured([&] {
    SourceHandle source;
    const flexq_status status = create(source, flexq_source_open, path.c_str());
    return status != FLEXQ_OK ? status : load_and_use(source.get());
  });
}

// What a file may be refused with; anything else blames the wrong thing.
bool is_refusal(flexq_status status) {
  return status == FLEXQ_ERROR_CORRUPT || status == FLEXQ_ERROR_UNSUPPORTED_VERSION ||
         status == FLEXQ_ERROR_UNSUPPORTED_MODEL || status == FLEXQ_ERROR_LIMIT_EXCEEDED;
}

void check_refused(const Outcome& outcome) {
  CHECK_MESSAGE(is_refusal(outcome.status), describe(outcome));
  CHECK_MESSAGE(outcome.peak_bytes <= kRefusalBytes, describe(outcome));
}

Bytes base_bundle() {
  const std::string& bytes = tiny_model_bytes();
  return Bytes(bytes.begin(), bytes.end());
}

Outcome load_changed(const std::function<void(BundleDirectory&)>& change) {
  BundleParts parts = take_apart(base_bundle());
  const Bytes segments = parts.segments();
  change(parts.directory);
  return load_bundle(assemble(parts.header, encode(parts.directory), segments));
}

void put32(Bytes& bytes, size_t at, uint32_t value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// The decoded tokenizer section of the base bundle.
Bytes tokenizer_section() {
  const std::string& bytes = tiny_model_bytes();
  auto source = make_memory_source({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  auto bundle = Bundle::open(std::move(source), {});
  REQUIRE(bundle.ok());
  const auto section = (*bundle)->read_section(kTokenizerSection);
  REQUIRE(section.ok());
  return Bytes(section->data(), section->data() + section->size());
}

// The base bundle with another tokenizer section.
Outcome load_with_tokenizer(const Bytes& section) {
  BundleParts parts = take_apart(base_bundle());
  REQUIRE(parts.directory.sections.size() == 1);
  REQUIRE(parts.directory.sections[0].chunks.size() == 1);
  ChunkEntry& chunk = parts.directory.sections[0].chunks[0];
  chunk.codec = ChunkCodec::kRaw;
  chunk.n_rows = chunk.raw_bytes = static_cast<int64_t>(section.size());
  parts.stored.back() = section;
  parts.place_chunks();
  return load_bundle(assemble(parts));
}

// A folder with the tiny checkpoint, in which single files are replaced.
class CheckpointFolder {
 public:
  Outcome load_with(const std::string& name, const std::string& content) const {
    const std::string path = checkpoint_ + "/" + name;
    const std::string original = read_file_bytes(path);
    std::ofstream(path, std::ios::binary) << content;
    const Outcome outcome = load_folder(checkpoint_);
    std::ofstream(path, std::ios::binary) << original;
    return outcome;
  }
  std::string file(const std::string& name) const {
    return read_file_bytes(checkpoint_ + "/" + name);
  }
  Outcome load() const { return load_folder(checkpoint_); }

 private:
  const TemporaryDirectory directory_;
  const std::string checkpoint_ = write_tiny_checkpoint(directory_.path());
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE_MESSAGE(at != std::string::npos, "no " << from << " in " << text);
  return text.replace(at, from.size(), to);
}

std::string little_endian(uint64_t value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

// A safetensors file of one header, without data.
std::string safetensors_with(const std::string& shape, const std::string& offsets) {
  return safetensors_bytes(R"({"model.embed_tokens.weight":{"dtype":"BF16","shape":)" + shape +
                               R"(,"data_offsets":)" + offsets + "}}",
                           "");
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7)
    bytes += static_cast<char>(value | 0x80u);
  return bytes + static_cast<char>(value);
}

constexpr uint32_t kHostileWords[] = {0,          1,          0x7fffffff, 0x80000000,
                                      0xfffffffc, 0xffffffff, 0x00100000};

}  // namespace

TEST_CASE("T4_regressions: the files that are changed below load") {
  const Outcome bundle = load_bundle(base_bundle());
  CHECK_MESSAGE(bundle.status == FLEXQ_OK, describe(bundle));
  const Outcome same_tokenizer = load_with_tokenizer(tokenizer_section());
  CHECK_MESSAGE(same_tokenizer.status == FLEXQ_OK, describe(same_tokenizer));
  const CheckpointFolder folder;
  const Outcome checkpoint = folder.load();
  CHECK_MESSAGE(checkpoint.status == FLEXQ_OK, describe(checkpoint));
}

TEST_CASE("a recorded config.json that is not JSON neither stops loading nor inspection") {
  BundleParts parts = take_apart(base_bundle());
  parts.directory.provenance.source_config_json = "{\"hidden_size\": \"\xc3\xa9";
  const Bytes bytes = assemble(parts);
  const Outcome loaded = load_bundle(bytes);
  CHECK_MESSAGE(loaded.status == FLEXQ_OK, describe(loaded));
  SourceHandle source;
  BundleHandle bundle;
  REQUIRE(create(source, flexq_source_from_memory, bytes.data(), std::ssize(bytes)) == FLEXQ_OK);
  REQUIRE(create(bundle, flexq_bundle_open, source.get()) == FLEXQ_OK);
  int64_t n_bytes = 0;
  flexq_bundle_json(bundle.get(), nullptr, 0, &n_bytes);
  std::string json(static_cast<size_t>(n_bytes), '?');
  REQUIRE(flexq_bundle_json(bundle.get(), json.data(), n_bytes, &n_bytes) == FLEXQ_OK);
  CHECK(json.find("\"source_config\": \"{\\\"hidden_size\\\": \\\"\xc3\xa9\"") !=
        std::string::npos);
}

TEST_CASE("T4_regressions: counts that overflow an allocation") {
  // The tokenizer's header: version, kind, flags, n_vocab at 12, ids, unknown text at 32, bytes
  // at 36.
  const Bytes section = tokenizer_section();
  for (const size_t at : {size_t{12}, size_t{32}, size_t{36}}) {
    for (const uint32_t word : kHostileWords) {
      CAPTURE(at);
      CAPTURE(word);
      Bytes changed = section;
      put32(changed, at, word);
      if (changed != section) check_refused(load_with_tokenizer(changed));
      changed.resize(40);  // nothing but the header
      check_refused(load_with_tokenizer(changed));
    }
  }
  // Two counts whose sum or product wraps to the right size.
  Bytes changed = section;
  put32(changed, 32, 0x80000000);
  put32(changed, 36, 0x80000000);
  check_refused(load_with_tokenizer(changed));

  const CheckpointFolder folder;
  const std::string weights = folder.file("model.safetensors");
  for (const uint64_t n_bytes :
       {uint64_t{0}, uint64_t{100'000'000}, uint64_t{weights.size()}, uint64_t{weights.size() - 7},
        uint64_t{1} << 31, uint64_t{1} << 32, uint64_t{INT64_MAX}, uint64_t{1} << 63, UINT64_MAX})
    check_refused(
        folder.load_with("model.safetensors", little_endian(n_bytes) + weights.substr(8)));
}

TEST_CASE("T4_regressions: rank") {
  const CheckpointFolder folder;
  std::string many = "[1";
  for (int i = 0; i < 10'000; ++i)
    many += ",1";
  for (const std::string& shape :
       {std::string("[]"), std::string("[20480]"), std::string("[320,64,1]"),
        std::string("[1,1,320,64]"), std::string("[1,1,1,320,64]"), many + "]"})
    check_refused(folder.load_with("model.safetensors", safetensors_with(shape, "[0,40960]")));
  for (const int32_t rank : {0, 1, 3, 4, 5, -1, INT32_MAX, INT32_MIN}) {
    CAPTURE(rank);
    check_refused(load_changed([&](BundleDirectory& d) { d.tensors[0].rank = rank; }));
  }
}

TEST_CASE("T4_regressions: products and sums of sizes that wrap") {
  const CheckpointFolder folder;
  const char* const shapes[] = {"[4294967296,4294967296]",
                                "[4611686018427387904,4]",
                                "[9223372036854775807,2]",
                                "[18446744073709551615,1]",
                                "[-1,64]",
                                "[1e300,64]",
                                "[320.5,64]",
                                "[3037000500,3037000500]"};
  for (const char* shape : shapes)
    for (const char* offsets : {"[0,0]", "[0,40960]", "[0,9223372036854775807]"})
      check_refused(folder.load_with("model.safetensors", safetensors_with(shape, offsets)));
  for (const char* offsets : {"[9223372036854775807,9223372036854775807]", "[40960,0]",
                              "[-40960,0]", "[18446744073709510656,18446744073709551615]", "[0]",
                              "[0,1,2]", "[9223372036854734848,9223372036854775807]"})
    check_refused(folder.load_with("model.safetensors", safetensors_with("[320,64]", offsets)));

  // Every dimension at its limit at once: the products fit 63 bits or are refused.
  check_refused(load_changed([](BundleDirectory& d) {
    d.config.n_layers = kMaxLayers;
    d.config.n_embd = kMaxEmbd;
    d.config.n_ff = kMaxFf;
    d.config.n_vocab = kMaxVocab;
    d.config.n_heads = d.config.n_kv_heads = 256;
    d.config.head_dim = kMaxHeadDim;
  }));
  for (const int64_t value :
       {INT64_MAX, INT64_MIN, int64_t{1} << 62, int64_t{1} << 32, int64_t{-1}}) {
    CAPTURE(value);
    check_refused(load_changed([&](BundleDirectory& d) { d.tensors[0].tensor.spec.rows = value; }));
    check_refused(load_changed([&](BundleDirectory& d) { d.tensors[0].tensor.spec.cols = value; }));
    check_refused(load_changed([&](BundleDirectory& d) { d.tensors[0].chunks[0].n_rows = value; }));
    check_refused(load_changed([&](BundleDirectory& d) { d.tensors[0].chunks[0].offset = value; }));
    check_refused(
        load_changed([&](BundleDirectory& d) { d.tensors[0].chunks[0].raw_bytes = value; }));
    check_refused(
        load_changed([&](BundleDirectory& d) { d.tensors[0].chunks[0].stored_bytes = value; }));
    check_refused(
        load_changed([&](BundleDirectory& d) { d.sections[0].chunks[0].n_rows = value; }));
  }
}

TEST_CASE("T4_regressions: a directory that was never verified") {
  // Every aligned word becomes a wild offset, length or number, under a right hash.
  const Bytes original = base_bundle();
  uint64_t directory_bytes = 0;
  std::memcpy(&directory_bytes, original.data() + 24, 8);
  Bytes bundle = original;
  int64_t n_loaded = 0;
  int64_t n_refused = 0;
  for (size_t at = kBundleHeaderBytes; at + 4 <= kBundleHeaderBytes + directory_bytes; at += 4) {
    uint32_t word = 0;
    std::memcpy(&word, original.data() + at, 4);
    for (const uint32_t value : {uint32_t{0}, uint32_t{0x7fffffff}, uint32_t{0x80000000},
                                 uint32_t{0xffffffff}, word + 4, word - 4, word ^ 0x00010000u}) {
      put32(bundle, at, value);
      rehash(bundle);
      const Outcome outcome = load_bundle(bundle);
      outcome.status == FLEXQ_OK ? ++n_loaded : ++n_refused;
      if (outcome.status == FLEXQ_OK) continue;
      CAPTURE(at);
      CAPTURE(value);
      REQUIRE_MESSAGE(is_refusal(outcome.status), describe(outcome));
      REQUIRE_MESSAGE(outcome.peak_bytes <= kRefusalBytes, describe(outcome));
    }
    put32(bundle, at, word);
  }
  MESSAGE(n_refused << " refused, " << n_loaded << " loaded");
  CHECK(n_refused > 1000);
}

TEST_CASE("T4_regressions: indices into lists") {
  for (const int32_t id : {320, 321, INT32_MAX, -2, INT32_MIN}) {
    CAPTURE(id);
    check_refused(load_changed([&](BundleDirectory& d) { d.config.bos_token_id = id; }));
    check_refused(load_changed([&](BundleDirectory& d) { d.config.eos_token_ids = {2, id}; }));
    Bytes section = tokenizer_section();
    for (const size_t at : {size_t{16}, size_t{20}, size_t{24}, size_t{28}}) {
      Bytes changed = section;
      put32(changed, at, static_cast<uint32_t>(id));
      check_refused(load_with_tokenizer(changed));
    }
  }
  for (const int value : {5, 100, 255}) {
    CAPTURE(value);
    check_refused(load_changed([&](BundleDirectory& d) {
      d.tensors[2].tensor.spec.role = static_cast<TensorRole>(value);
    }));
    check_refused(
        load_changed([&](BundleDirectory& d) { d.tensors[2].tensor.spec.layer = value; }));
    check_refused(load_changed([&](BundleDirectory& d) {
      d.tensors[2].tensor.format = static_cast<WeightFormat>(value);
    }));
    check_refused(load_changed(
        [&](BundleDirectory& d) { d.config.rope.type = static_cast<RopeType>(value); }));
    check_refused(load_changed([&](BundleDirectory& d) {
      d.sections[0].chunks[0].codec = static_cast<ChunkCodec>(value);
    }));
  }
  // Types of pieces, one byte each behind scores and lengths.
  Bytes section = tokenizer_section();
  uint32_t n_vocab = 0;
  std::memcpy(&n_vocab, section.data() + 12, 4);
  for (const uint8_t type : {uint8_t{0}, uint8_t{7}, uint8_t{255}}) {
    Bytes changed = section;
    changed[40 + size_t{n_vocab} * 6 + 300] = type;
    check_refused(load_with_tokenizer(changed));
  }
}

TEST_CASE("T4_regressions: lengths in vocabularies, signed or huge") {
  const Bytes section = tokenizer_section();
  uint32_t n_vocab = 0;
  std::memcpy(&n_vocab, section.data() + 12, 4);
  for (const size_t piece : {size_t{0}, size_t{300}, size_t{n_vocab} - 1}) {
    for (const uint16_t length :
         {uint16_t{0}, uint16_t{1025}, uint16_t{0x7fff}, uint16_t{0x8000}, uint16_t{0xffff}}) {
      CAPTURE(piece);
      CAPTURE(length);
      Bytes changed = section;
      std::memcpy(changed.data() + 40 + size_t{n_vocab} * 4 + piece * 2, &length, 2);
      check_refused(load_with_tokenizer(changed));
    }
  }
  // SentencePiece's file: lengths are varints of up to 64 bits, at three depths.
  const CheckpointFolder folder;
  const std::string model = folder.file("tokenizer.model");
  for (const uint64_t length :
       {uint64_t{1} << 20, uint64_t{INT32_MAX}, uint64_t{1} << 31, uint64_t{UINT32_MAX},
        uint64_t{1} << 32, uint64_t{INT64_MAX}, uint64_t{1} << 63, UINT64_MAX}) {
    CAPTURE(length);
    const std::string name = "\x0a" + varint(length) + "abc";  // SentencePiece.piece
    for (const std::string& content :
         {"\x0a" + varint(length) + "abc", "\x0a" + varint(name.size()) + name,
          model + "\x12" + varint(length), model + "\x1a\x03\x12" + varint(length)})
      check_refused(folder.load_with("tokenizer.model", content));
  }
  check_refused(folder.load_with("tokenizer.model", "\x0a" + std::string(11, '\xff')));
  check_refused(folder.load_with("tokenizer.model", std::string(1000, '\x0b')));  // nested groups
}

TEST_CASE("T4_regressions: dimensions of zero and below") {
  using Field = int32_t ModelConfig::*;
  for (const Field field : {&ModelConfig::n_layers, &ModelConfig::n_embd, &ModelConfig::n_heads,
                            &ModelConfig::n_kv_heads, &ModelConfig::head_dim, &ModelConfig::n_ff,
                            &ModelConfig::n_vocab, &ModelConfig::context_tokens}) {
    for (const int32_t value : {0, -1, INT32_MIN}) {
      CAPTURE(value);
      check_refused(load_changed([&](BundleDirectory& d) { d.config.*field = value; }));
    }
  }
  check_refused(load_changed([](BundleDirectory& d) { d.group_size = 0; }));
  check_refused(load_changed([](BundleDirectory& d) { d.config.rope.theta = 0; }));
  check_refused(load_changed([](BundleDirectory& d) {
    d.config.rope.type = RopeType::kLinear;
    d.config.rope.factor = 0;
  }));
  check_refused(load_changed([](BundleDirectory& d) {
    d.config.rope.type = RopeType::kLlama3;
    d.config.rope.low_freq_factor = d.config.rope.high_freq_factor = 4;
  }));

  const CheckpointFolder folder;
  const std::string config = folder.file("config.json");
  for (const char* key :
       {"num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
        "intermediate_size", "vocab_size", "max_position_embeddings", "head_dim"}) {
    for (const char* value : {"0", "-1", "-9223372036854775808", "99999999999999999999"}) {
      CAPTURE(key);
      CAPTURE(value);
      const std::string quoted = std::string("\"") + key + "\"";
      std::string changed = config;
      const size_t at = changed.find(quoted);
      if (at == std::string::npos) {
        changed = replaced(changed, "{", "{" + quoted + ":" + value + ",");
      } else {
        const size_t begin = changed.find(':', at) + 1;
        changed.replace(begin, changed.find_first_of(",}", begin) - begin, value);
      }
      check_refused(folder.load_with("config.json", changed));
    }
  }
  for (const char* shape : {"[0,64]", "[320,0]", "[0]", "[0,0,0,0]"})
    check_refused(folder.load_with("model.safetensors", safetensors_with(shape, "[0,0]")));
}

TEST_CASE("T4_regressions: small files that declare much") {
  // A directory of 64 MiB in a file of 160 bytes, and in one of a page.
  for (const size_t size : {size_t{160}, size_t{4096}}) {
    Bytes bundle = base_bundle();
    bundle.resize(size);
    const uint64_t declared = uint64_t{64} << 20;
    const uint64_t segment_base = declared + 4096;
    const uint64_t file_bytes = size;
    std::memcpy(bundle.data() + 24, &declared, 8);
    std::memcpy(bundle.data() + 32, &segment_base, 8);
    std::memcpy(bundle.data() + 40, &file_bytes, 8);
    check_refused(load_bundle(bundle));
  }
  // Weights of 256 MiB, chunks of 16 MiB in 64 stored bytes each.
  BundleParts parts = take_apart(base_bundle());
  const auto declare_rows = [&](size_t t, int64_t rows, int64_t stored_bytes) {
    TensorEntry& entry = parts.directory.tensors[t];
    const int64_t step = kMaxPieceBytes / (entry.tensor.spec.cols * 2);
    entry.tensor.spec.rows = rows;
    entry.chunks.clear();
    for (int64_t row = 0; row < rows; row += step) {
      ChunkEntry& chunk = entry.chunks.emplace_back();
      chunk.row_begin = row;
      chunk.n_rows = std::min(step, rows - row);
      chunk.raw_bytes = chunk.n_rows * entry.tensor.spec.cols * 2;
      chunk.stored_bytes = stored_bytes;
      chunk.codec = ChunkCodec::kZstd;
    }
  };
  const auto assemble_declared = [&](int64_t stored_bytes) {
    const size_t last = parts.directory.tensors.size() - 1;
    parts.directory.config.n_vocab = kMaxVocab;
    declare_rows(0, kMaxVocab, stored_bytes);
    declare_rows(last, kMaxVocab, stored_bytes);
    int64_t cursor = 0;
    for (auto& tensor : parts.directory.tensors) {
      for (ChunkEntry& chunk : tensor.chunks) {
        chunk.offset = align_up(cursor, kChunkAlignment);
        cursor = chunk.offset + chunk.stored_bytes;
      }
      cursor = align_up(cursor, kSegmentAlignment);
    }
    for (ChunkEntry& chunk : parts.directory.sections[0].chunks) {
      chunk.offset = align_up(cursor, kChunkAlignment);
      cursor = chunk.offset + chunk.stored_bytes;
    }
    const Bytes segments(static_cast<size_t>(align_up(cursor, kSegmentAlignment)), uint8_t{0});
    return assemble(parts.header, encode(parts.directory), segments);
  };
  const Outcome bomb = load_bundle(assemble_declared(64));
  check_refused(bomb);
  CHECK_MESSAGE(bomb.message.find("expected at least 512") != std::string::npos, describe(bomb));
  check_refused(load_bundle(assemble_declared(511)));
  // As many stored bytes as a frame needs at least: the rule is content, and the zeros that stand
  // for frames here are found out. Loading has asked for the declared weights by then.
  const Bytes allowed = assemble_declared(512);
  const Outcome refused = load_bundle(allowed);
  CHECK_MESSAGE(refused.status == FLEXQ_ERROR_CORRUPT, describe(refused));
  CHECK_MESSAGE(refused.message.find("SHA-256") != std::string::npos, describe(refused));
  CHECK(refused.peak_bytes < static_cast<int64_t>(allowed.size()) * kMaxExpansion);

  // A checkpoint that declares a tensor of 1 GiB, and one whose header does.
  const CheckpointFolder folder;
  check_refused(
      folder.load_with("model.safetensors", safetensors_with("[8388608,64]", "[0,1073741824]")));
  check_refused(folder.load_with("model.safetensors", little_endian(90'000'000) + "{}"));
  // Many short values, which JSON makes large.
  std::string list = "{\"a\":[0";
  for (int i = 0; i < 100'000; ++i)
    list += ",0";
  const Outcome json = folder.load_with("config.json", list + "]}");
  CHECK_MESSAGE(is_refusal(json.status), describe(json));
  CHECK_MESSAGE(json.peak_bytes <= 64 * static_cast<int64_t>(list.size()), describe(json));
}

}  // namespace flexq::test
