// What is written is what is read, byte for byte, and the file is what schema/FORMAT.md says.
#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "base/checked.h"
#include "base/file.h"
#include "bundle/bundle_parts.h"
#include "bundle/bundle_reader.h"
#include "bundle/chunk_codec.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

template <typename T>
T field(const Bytes& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// Several chunks in most tensors: the largest has 2 MiB and a half in 16 bits. The embedding is
// quantized too, the lm_head is not.
BundleContents larger_contents() {
  BundleContents contents = tiny_contents();
  contents.config.n_embd = 640;
  contents.config.n_ff = 2049;  // ragged groups, and an odd number of rows
  contents.config.n_vocab = 2000;
  std::vector<StoredTensor> tensors;
  for (TensorSpec& spec : expected_tensors(contents.config)) {
    StoredTensor tensor = contents.tensors[tensors.size()];
    tensor.spec = std::move(spec);
    if (tensor.spec.role == TensorRole::kEmbedding) {
      tensor.format = WeightFormat::kInt8Row;
      tensor.scale_multiplier = 2.0f;
    } else if (tensor.spec.role == TensorRole::kLmHead) {
      tensor.format = WeightFormat::kF16;
      tensor.scale_multiplier = 1.0f;
    }
    tensors.push_back(std::move(tensor));
  }
  contents.tensors = std::move(tensors);
  contents.provenance.evidence = {{"model.layers.0.mlp.up_proj.weight", "input_max", 2.5, {1, 2.5}},
                                  {"model.layers.0.mlp.up_proj.weight", "kl_a6", -0.0, {}}};
  BundleCalibration& calibration = contents.provenance.calibration.emplace();
  calibration.text_sha256[31] = 7;
  calibration.window_tokens = 512;
  calibration.n_windows = 32;
  calibration.goal = "a8_fraction";
  calibration.goal_value = 0.25;
  calibration.goal_met = false;
  calibration.policies = {{"unquantized", 0, 20, 0, 0}, {"auto", 0.2, 21, 0.01, -0.005}};
  calibration.front = {{"", 0, 22, 0.02, 0.02}, {"", 1, 20.5, 0.001, 0.001}};
  return contents;
}

void check_same_weights(const BundleContents& contents, Bundle& bundle) {
  REQUIRE(bundle.tensors().size() == contents.tensors.size());
  PieceBuffer buffer;
  for (size_t t = 0; t < contents.tensors.size(); ++t) {
    const StoredTensor& expected = contents.tensors[t];
    const StoredTensor& found = bundle.tensors()[t];
    CHECK(found.spec.name == expected.spec.name);
    CHECK(found.spec.role == expected.spec.role);
    CHECK(found.spec.linear_kind == expected.spec.linear_kind);
    CHECK(found.format == expected.format);
    CHECK(found.activation_bits == expected.activation_bits);
    CHECK(found.scale_multiplier == expected.scale_multiplier);
    int64_t row = 0;
    for (int64_t p = 0; p < bundle.n_pieces(static_cast<int64_t>(t)); ++p) {
      WeightPiece piece;
      const Status status = bundle.read_piece(static_cast<int64_t>(t), p, buffer, &piece);
      REQUIRE_MESSAGE(status.ok(), status.message());
      CHECK(piece.row_begin == row);
      const ChunkLayout layout = chunk_layout(found.format, piece.n_rows, found.spec.cols);
      Bytes raw(static_cast<size_t>(layout.raw_bytes));
      REQUIRE(
          produce_random_rows(contents, {static_cast<int64_t>(t), row, piece.n_rows, 0}, raw).ok());
      CHECK(std::memcmp(piece.values, raw.data(), static_cast<size_t>(layout.values_bytes)) == 0);
      if (is_quantized(found.format)) {
        REQUIRE(piece.scales != nullptr);
        CHECK(std::memcmp(piece.scales, raw.data() + layout.scales_offset,
                          static_cast<size_t>(layout.raw_bytes - layout.scales_offset)) == 0);
      } else {
        CHECK(piece.scales == nullptr);
      }
      row += piece.n_rows;
    }
    CHECK(row == found.spec.rows);
  }
}

}  // namespace

TEST_CASE("a bundle gives back what was put in") {
  for (const BundleContents& contents : {tiny_contents(), larger_contents()}) {
    const Bytes bytes = write_to_bytes(contents, 2);
    auto opened = Bundle::open(make_memory_source(bytes), {});
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    Bundle& bundle = **opened;
    CHECK(bundle.config() == contents.config);
    CHECK(bundle.policy() == "mixed");
    CHECK(bundle.group_size() == 128);
    CHECK(*bundle.chat_template() == "{{ messages }}");
    CHECK(bundle.provenance().source == "tiny");
    CHECK(bundle.provenance().key_values == contents.provenance.key_values);
    CHECK(bundle.provenance().calibration == contents.provenance.calibration);
    REQUIRE(bundle.provenance().evidence.size() == contents.provenance.evidence.size());
    for (size_t i = 0; i < contents.provenance.evidence.size(); ++i) {
      CHECK(bundle.provenance().evidence[i].value == contents.provenance.evidence[i].value);
      CHECK(bundle.provenance().evidence[i].values == contents.provenance.evidence[i].values);
    }
    CHECK(bundle.file_bytes() == static_cast<int64_t>(bytes.size()));
    check_same_weights(contents, bundle);
    for (const SectionContents& section : contents.sections) {
      auto read = bundle.read_section(section.kind);
      REQUIRE(read.ok());
      REQUIRE(read->size() == static_cast<int64_t>(section.bytes.size()));
      CHECK(std::equal(section.bytes.begin(), section.bytes.end(), read->data()));
    }
    CHECK(bundle.has_section("notes"));
    CHECK_FALSE(bundle.has_section("evidence"));
    CHECK(bundle.read_section("evidence").status().code() == StatusCode::kNotFound);

    PieceBuffer buffer;
    WeightPiece piece;
    CHECK(bundle.read_piece(-1, 0, buffer, &piece).code() == StatusCode::kInvalidArgument);
    CHECK(bundle.read_piece(0, 99, buffer, &piece).code() == StatusCode::kInvalidArgument);
    CHECK(bundle.read_piece(99, 0, buffer, &piece).code() == StatusCode::kInvalidArgument);

    int64_t last_done = 0;
    ThreadPool pool(2);
    const ProgressSink progress{[](int64_t done, int64_t, void* last) {
                                  *static_cast<int64_t*>(last) = done;
                                  return int32_t{0};
                                },
                                &last_done};
    CHECK(bundle.verify(pool, progress).ok());
    int64_t stored = 0;
    for (size_t t = 0; t < contents.tensors.size(); ++t)
      stored += bundle.stored_bytes(static_cast<int64_t>(t));
    CHECK(last_done > stored);  // sections too
    const ProgressSink stop{[](int64_t, int64_t, void*) { return int32_t{1}; }, nullptr};
    CHECK(bundle.verify(pool, stop).code() == StatusCode::kCancelled);
  }
}

TEST_CASE("large tensors are stored in several chunks of whole blocks of rows") {
  const Bytes bytes = write_to_bytes(larger_contents(), 1);
  auto bundle = Bundle::open(make_memory_source(bytes), {});
  REQUIRE(bundle.ok());
  CHECK((*bundle)->n_pieces(0) == 2);  // 2000 rows of 640 values: 1632 and 368
  // v_proj in 8 bits, the others in 6, all compressed; o_proj, in 16 bits, does not count.
  CHECK((*bundle)->linear_bits_per_weight() > 5.0);
  CHECK((*bundle)->linear_bits_per_weight() < 6.3);
}

TEST_CASE("header and segments lie where FORMAT.md says") {
  const Bytes& bytes = tiny_bundle();
  CHECK(std::memcmp(bytes.data(), "FLEXQ\0", 6) == 0);
  CHECK(field<uint16_t>(bytes, 6) == 1);
  CHECK(field<uint16_t>(bytes, 8) == 1);
  CHECK(field<uint16_t>(bytes, 10) == 0);
  CHECK(field<uint32_t>(bytes, 12) == 256);
  CHECK(field<uint64_t>(bytes, 16) == 256);
  const uint64_t directory_bytes = field<uint64_t>(bytes, 24);
  CHECK(field<uint64_t>(bytes, 32) == (256 + directory_bytes + 4095) / 4096 * 4096);
  CHECK(field<uint64_t>(bytes, 40) == bytes.size());
  CHECK(std::memcmp(bytes.data() + 256 + 4, "FQB1", 4) == 0);

  Sha256 hash;
  hash.update(std::span(bytes).first(64));
  hash.update(std::span(bytes).subspan(256, directory_bytes));
  const Sha256Digest digest = hash.finish();
  CHECK(std::memcmp(bytes.data() + 64, digest.data(), 32) == 0);
  CHECK(all_zero(std::span(bytes).subspan(96, 160)));

  // The embedding takes one page, o_proj in 16 bits two.
  BundleParts parts = take_apart(bytes);
  CHECK(parts.directory.tensors[0].chunks[0].offset == 0);
  CHECK(parts.directory.tensors[1].chunks[0].offset == 1 * 4096);
  CHECK(parts.directory.tensors[5].chunks[0].offset == 5 * 4096);
  CHECK(parts.directory.tensors[6].chunks[0].offset == 7 * 4096);
}

TEST_CASE("the bytes do not depend on the number of threads") {
  const BundleContents contents = larger_contents();
  const Bytes one = write_to_bytes(contents, 1);
  CHECK(write_to_bytes(contents, 3) == one);
  CHECK(write_to_bytes(contents, 8) == one);
  CHECK(write_to_bytes(contents, 1) == one);
}

TEST_CASE("an interrupted or failed write leaves the old file and nothing else") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  std::ofstream(path) << "old";
  const auto check_untouched = [&] {
    std::ifstream file(path);
    CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == "old");
    CHECK(list_directory(directory.path())->size() == 1);
  };
  const BundleContents contents = larger_contents();
  ThreadPool pool(2);
  const auto produce = [&](const ChunkRequest& request, std::span<uint8_t> raw) {
    return produce_random_rows(contents, request, raw);
  };

  const ProgressSink stop_half_way{
      [](int64_t done, int64_t total, void*) { return int32_t{2 * done > total ? 1 : 0}; },
      nullptr};
  CHECK(write_bundle_at(path, contents, produce, pool, stop_half_way).code() ==
        StatusCode::kCancelled);
  check_untouched();

  const auto fail_late = [&](const ChunkRequest& request, std::span<uint8_t> raw) {
    if (request.tensor == 9) return Status::error(StatusCode::kIo, "disk gone");
    return produce(request, raw);
  };
  CHECK(write_bundle_at(path, contents, fail_late, pool, {}).message() == "disk gone");
  check_untouched();

  const auto bad_values = [&](const ChunkRequest& request, std::span<uint8_t> raw) {
    FLEXQ_RETURN_IF_ERROR(produce(request, raw));
    if (request.tensor == 2) raw[3] = 77;
    return Status();
  };
  CHECK(write_bundle_at(path, contents, bad_values, pool, {}).message() ==
        "tensor model.layers.0.self_attn.q_proj.weight: row 0, column 3: code outside [-32, 31]");
  check_untouched();

  BundleContents incomplete = contents;
  incomplete.tensors.pop_back();
  CHECK(write_bundle_at(path, incomplete, produce, pool, {}).code() ==
        StatusCode::kInvalidArgument);
  BundleContents empty_section = contents;
  empty_section.sections[0].bytes = {};
  CHECK(write_bundle_at(path, empty_section, produce, pool, {}).code() ==
        StatusCode::kInvalidArgument);
  check_untouched();
  CHECK(write_bundle_at(directory.path(), contents, produce, pool, {}).code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("errors name the file") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("broken.flexq");
  std::ofstream(path) << "FLEXQ";
  auto source = open_file_source(path);
  REQUIRE(source.ok());
  const auto bundle = Bundle::open(std::move(source).value(), {});
  CHECK(bundle.status().message() == path + ": 5 bytes, expected at least 256");
}

}  // namespace flexq::test
