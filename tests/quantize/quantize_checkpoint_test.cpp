// From checkpoint folders to bundles.
#include "quantize/quantize_checkpoint.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "base/byte_source.h"
#include "base/file.h"
#include "base/half.h"
#include "bundle/bundle_reader.h"
#include "checkpoint/checkpoint_reader.h"
#include "quantize/reference_quantizer.h"
#include "support/synthetic_checkpoint.h"
#include "support/synthetic_tokenizer.h"
#include "support/test_data.h"
#include "text/tokenizer_segment.h"

namespace flexq::test {
namespace {

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::unique_ptr<Bundle> open_bundle(const std::string& path) {
  auto source = open_file_source(path);
  REQUIRE(source.ok());
  auto bundle = Bundle::open(std::move(source).value(), {});
  REQUIRE_MESSAGE(bundle.ok(), bundle.status().message());
  return std::move(bundle).value();
}

// row_bits: of the embedding and lm_head.
void quantize(const std::string& checkpoint, const std::string& path, const std::string& policy,
              int n_threads = 2, int32_t row_bits = 16) {
  QuantizeOptions options;
  options.policy = policy;
  options.embedding_bits = row_bits;
  options.lm_head_bits = row_bits;
  options.n_threads = n_threads;
  const Status status = quantize_checkpoint(checkpoint, path, options);
  REQUIRE_MESSAGE(status.ok(), status.message());
}

// All values of a dense tensor of a checkpoint.
std::vector<float> read_tensor(Checkpoint& checkpoint, size_t tensor) {
  const StoredTensor& stored = checkpoint.tensors()[tensor];
  std::vector<float> values;
  PieceBuffer buffer;
  for (int64_t p = 0; p < checkpoint.n_pieces(static_cast<int64_t>(tensor)); ++p) {
    WeightPiece piece;
    REQUIRE(checkpoint.read_piece(static_cast<int64_t>(tensor), p, buffer, &piece).ok());
    for (int64_t i = 0; i < piece.n_rows * stored.spec.cols; ++i) {
      uint32_t word = 0;
      uint16_t half = 0;
      std::memcpy(stored.format == WeightFormat::kF32 ? static_cast<void*>(&word) : &half,
                  piece.values + i * element_bytes(stored.format),
                  static_cast<size_t>(element_bytes(stored.format)));
      values.push_back(stored.format == WeightFormat::kF32   ? std::bit_cast<float>(word)
                       : stored.format == WeightFormat::kF16 ? half_to_float(half)
                                                             : bf16_to_float(half));
    }
  }
  return values;
}

// Every quantized tensor against the definition; returns how many weights were compared.
int64_t check_quantized_tensors(const std::string& checkpoint_dir, Bundle& bundle) {
  auto checkpoint = Checkpoint::open(checkpoint_dir);
  REQUIRE(checkpoint.ok());
  CHECK(bundle.config() == (*checkpoint)->config());
  int64_t n_weights = 0;
  PieceBuffer buffer;
  for (size_t t = 0; t < bundle.tensors().size(); ++t) {
    const StoredTensor& stored = bundle.tensors()[t];
    if (!is_quantized(stored.format)) continue;
    const std::vector<float> weights = read_tensor(**checkpoint, t);
    const int64_t n_cols = stored.spec.cols;
    for (int64_t p = 0; p < bundle.n_pieces(static_cast<int64_t>(t)); ++p) {
      WeightPiece piece;
      REQUIRE(bundle.read_piece(static_cast<int64_t>(t), p, buffer, &piece).ok());
      const uint16_t* scales = piece.scales;
      for (int64_t r = 0; r < piece.n_rows; ++r) {
        const ReferenceRow expected =
            quantize_reference(stored.format, weights.data() + (piece.row_begin + r) * n_cols,
                               n_cols, stored.scale_multiplier);
        const bool same = std::memcmp(piece.values + r * n_cols, expected.codes.data(),
                                      expected.codes.size()) == 0 &&
                          std::equal(expected.scales.begin(), expected.scales.end(), scales);
        scales += expected.scales.size();
        REQUIRE_MESSAGE(same, stored.spec.name << " row " << piece.row_begin + r);
        n_weights += n_cols;
      }
    }
  }
  return n_weights;
}

Status quantize_files(const SyntheticFiles& files, const std::string& path) {
  const TemporaryDirectory checkpoint;
  write_files(checkpoint.path(), files);
  return quantize_checkpoint(checkpoint.path(), path, {});
}

}  // namespace

TEST_CASE("stories260k: codes and scales of 64 and 172 columns round-trip exactly") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("stories.flexq");
  const std::string checkpoint_dir = source_path("samples/data/stories260k");
  quantize(checkpoint_dir, path, "flexq");
  const std::unique_ptr<Bundle> bundle = open_bundle(path);
  CHECK(check_quantized_tensors(checkpoint_dir, *bundle) == 5 * (12'288 + 3 * 64 * 172));

  auto checkpoint = Checkpoint::open(checkpoint_dir);
  REQUIRE(checkpoint.ok());
  CHECK(bundle->tensors()[0].format == WeightFormat::kF16);  // embedding: F32, and it fits
  CHECK(bundle->tensors()[1].format == WeightFormat::kF32);  // norm
  CHECK(bundle->provenance().source == "stories260k");
  CHECK(bundle->provenance().tool_version.find("flexq ") == 0);
  CHECK(bundle->provenance().source_config_json == (*checkpoint)->config_json());
  CHECK(bundle->chat_template() == nullptr);
  auto section = bundle->read_section(kTokenizerSection);
  REQUIRE(section.ok());
  const auto tokenizer = parse_tokenizer(section->span());
  REQUIRE(tokenizer.ok());
  CHECK(tokenizer->n_vocab() == 512);
}

TEST_CASE("stories260k: 8 bits everywhere, rows of 64 and 172 columns") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("stories.flexq");
  const std::string checkpoint_dir = source_path("samples/data/stories260k");
  quantize(checkpoint_dir, path, "w8a8", 2, 8);
  const std::unique_ptr<Bundle> bundle = open_bundle(path);
  CHECK(check_quantized_tensors(checkpoint_dir, *bundle) ==
        5 * (12'288 + 3 * 64 * 172) + 2 * 512 * 64);
  CHECK(bundle->tensors().front().format == WeightFormat::kInt8Row);
  CHECK(bundle->tensors().back().format == WeightFormat::kInt8Row);
  ThreadPool pool(2);
  CHECK(bundle->verify(pool, {}).ok());
}

TEST_CASE("wiki-tiny-1m: BF16 stays BF16 outside linear layers") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("wiki.flexq");
  const std::string checkpoint_dir = source_path("tests/data/wiki-tiny-1m");
  quantize(checkpoint_dir, path, "w6a8");
  const std::unique_ptr<Bundle> bundle = open_bundle(path);
  CHECK(check_quantized_tensors(checkpoint_dir, *bundle) > 1'000'000);
  for (const StoredTensor& tensor : bundle->tensors()) {
    const bool linear = tensor.spec.role == TensorRole::kLinear;
    CHECK(tensor.format == (linear ? WeightFormat::kInt6Group : WeightFormat::kBF16));
    CHECK(tensor.activation_bits == (linear ? 8 : 16));
  }
  ThreadPool pool(2);
  CHECK(bundle->verify(pool, {}).ok());
}

TEST_CASE("wiki-llama2-28m: at most 5.8 bits per weight on disk") {
  const std::string checkpoint_dir = reference_path("models/wiki-llama2-28m");
  if (checkpoint_dir.empty()) return;
  const TemporaryDirectory directory;
  const std::string path = directory.file("wiki28m.flexq");
  quantize(checkpoint_dir, path, "flexq");
  const std::unique_ptr<Bundle> bundle = open_bundle(path);
  MESSAGE("bits per weight: " << bundle->linear_bits_per_weight());
  CHECK(bundle->linear_bits_per_weight() <= 5.8);
  CHECK(bundle->linear_bits_per_weight() > 5.0);
  ThreadPool pool(2);
  CHECK(bundle->verify(pool, {}).ok());
}

TEST_CASE("T35_deterministic_bundle: the same bytes for any number of threads, and twice") {
  const TemporaryDirectory directory;
  const std::string synthetic = directory.file("synthetic");
  REQUIRE(std::filesystem::create_directory(synthetic));
  SyntheticOptions options;
  options.config.n_embd = 704;
  options.config.n_ff = 1999;
  options.config.n_layers = 1;
  options.format = WeightFormat::kF32;  // chunks do not line up with the pieces read
  options.n_shards = 2;
  write_synthetic_checkpoint(synthetic, options);
  for (const std::string& checkpoint : {synthetic, source_path("tests/data/wiki-tiny-1m")}) {
    for (const int32_t row_bits : {16, 8}) {
      std::vector<std::string> files;
      for (const int n_threads : {1, 3, 8, 1}) {
        const std::string path = directory.file("bundle-" + std::to_string(files.size()));
        quantize(checkpoint, path, row_bits == 8 ? "w8a8" : "flexq", n_threads, row_bits);
        files.push_back(read_all(path));
      }
      for (const std::string& file : files)
        CHECK(file == files[0]);
    }
  }
}

TEST_CASE("a tokenizer may have fewer pieces than the model, never more") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  SyntheticFiles files = make_synthetic_checkpoint({});
  const int32_t n_vocab = small_model_config().n_vocab;
  files["tokenizer.model"] = synthetic_tokenizer_model(n_vocab + 1);
  const Status status = quantize_files(files, path);
  CHECK(status.code() == StatusCode::kUnsupportedModel);
  CHECK(status.message().find("321 pieces, expected at most the model's vocabulary of 320") !=
        std::string::npos);
  files["tokenizer.model"] = "nonsense";
  CHECK_FALSE(quantize_files(files, path).ok());
  files.erase("tokenizer.model");
  CHECK(quantize_files(files, path).code() == StatusCode::kNotFound);
  CHECK(list_directory(directory.path())->empty());
  files["tokenizer.model"] = synthetic_tokenizer_model(n_vocab - 20);
  CHECK(quantize_files(files, path).ok());
}

TEST_CASE("the chat template is kept verbatim") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  SyntheticFiles files = make_synthetic_checkpoint({});
  files["tokenizer_config.json"] = R"({"chat_template": "{% for m in messages %}\n{{ m }}"})";
  REQUIRE(quantize_files(files, path).ok());
  const std::unique_ptr<Bundle> bundle = open_bundle(path);
  REQUIRE(bundle->chat_template() != nullptr);
  CHECK(*bundle->chat_template() == "{% for m in messages %}\n{{ m }}");
}

TEST_CASE("refusals before any work, and nothing left behind") {
  const TemporaryDirectory directory;
  const std::string tiny = source_path("tests/data/wiki-tiny-1m");
  const auto code = [&](const std::string& checkpoint, const std::string& output,
                        const std::string& policy = "flexq", int n_threads = 1) {
    QuantizeOptions options;
    options.policy = policy;
    options.n_threads = n_threads;
    return quantize_checkpoint(checkpoint, output, options).code();
  };
  const std::string path = directory.file("model.flexq");
  CHECK(code(tiny, directory.path()) == StatusCode::kInvalidArgument);
  CHECK(code(tiny, directory.path() + "/") == StatusCode::kInvalidArgument);
  CHECK(code(tiny, "") == StatusCode::kInvalidArgument);
  CHECK(code(tiny, directory.file("none/model.flexq")) == StatusCode::kNotFound);
  CHECK(code(tiny, path, "auto") == StatusCode::kInvalidArgument);  // without a text or a goal
  CHECK(code(tiny, path, "w5a5") == StatusCode::kUnsupportedValue);
  CHECK(code(tiny, path, "flexq", -1) == StatusCode::kInvalidArgument);
  CHECK(code(directory.file("none"), path) == StatusCode::kNotFound);

  SyntheticOptions options;
  options.planted = {{"model.layers.1.mlp.down_proj.weight", 5, 6, NAN}};
  CHECK(quantize_files(make_synthetic_checkpoint(options), path).code() == StatusCode::kNonFinite);
  CHECK(list_directory(directory.path())->empty());
}

}  // namespace flexq::test
