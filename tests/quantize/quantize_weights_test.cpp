// From weights in memory to a bundle: what each format becomes, with pieces and chunks that do not
// line up.
#include "quantize/quantize_weights.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <vector>

#include "base/byte_source.h"
#include "base/file.h"
#include "base/half.h"
#include "bundle/bundle_reader.h"
#include "quantize/reference_quantizer.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

// F32 weights in memory, cut into pieces of 48 rows.
class FloatSource final : public WeightSource {
 public:
  explicit FloatSource(const ModelConfig& config) : config_(config) {
    for (TensorSpec& spec : expected_tensors(config)) {
      values_.push_back(synthetic_tensor(spec, 3));
      StoredTensor& tensor = tensors_.emplace_back();
      tensor.spec = std::move(spec);
    }
  }
  const ModelConfig& config() const override { return config_; }
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  int64_t n_pieces(int64_t tensor) const override {
    return (tensors_[static_cast<size_t>(tensor)].spec.rows + kRows - 1) / kRows;
  }
  Status read_piece(int64_t tensor, int64_t piece, PieceBuffer&, WeightPiece* out) override {
    const TensorSpec& spec = tensors_[static_cast<size_t>(tensor)].spec;
    out->row_begin = piece * kRows;
    out->n_rows = std::min(kRows, spec.rows - out->row_begin);
    out->values = reinterpret_cast<const uint8_t*>(values_[static_cast<size_t>(tensor)].data() +
                                                   out->row_begin * spec.cols);
    out->scales = nullptr;
    return {};
  }
  std::vector<float>& values(const std::string& name) {
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (tensors_[i].spec.name == name) return values_[i];
    FAIL("no tensor " << name);
    return values_[0];
  }
  std::vector<StoredTensor>& mutable_tensors() { return tensors_; }

 private:
  static constexpr int64_t kRows = 48;
  ModelConfig config_;
  std::vector<StoredTensor> tensors_;
  std::vector<std::vector<float>> values_;
};

// FFN matrices of 2.1 million weights: several chunks, whose rows are no multiple of 48.
ModelConfig wide_config() {
  ModelConfig config = small_model_config();
  config.n_layers = 1;
  config.n_embd = 704;
  config.n_ff = 3001;
  config.n_vocab = 300;
  return config;
}

Status quantize(WeightSource& source, const std::string& policy, const std::string& path,
                const ProgressSink& progress = {}, int32_t embedding_bits = 16,
                int32_t lm_head_bits = 16) {
  ThreadPool pool(2);
  FLEXQ_ASSIGN_OR_RETURN(const PrecisionPolicy found, find_precision_policy(policy));
  return quantize_weights(source, {found, embedding_bits, lm_head_bits}, {}, path, pool, progress);
}

std::unique_ptr<Bundle> open_bundle(const std::string& path) {
  auto source = open_file_source(path);
  REQUIRE(source.ok());
  auto bundle = Bundle::open(std::move(source).value(), {});
  REQUIRE_MESSAGE(bundle.ok(), bundle.status().message());
  return std::move(bundle).value();
}

void check_quantized(Bundle& bundle, int64_t tensor, const std::vector<float>& weights) {
  const StoredTensor& stored = bundle.tensors()[static_cast<size_t>(tensor)];
  const int64_t n_cols = stored.spec.cols;
  PieceBuffer buffer;
  for (int64_t p = 0; p < bundle.n_pieces(tensor); ++p) {
    WeightPiece piece;
    REQUIRE(bundle.read_piece(tensor, p, buffer, &piece).ok());
    const uint16_t* scales = piece.scales;
    for (int64_t r = 0; r < piece.n_rows; ++r) {
      const ReferenceRow expected =
          quantize_reference(stored.format, weights.data() + (piece.row_begin + r) * n_cols, n_cols,
                             stored.scale_multiplier);
      const bool same = std::memcmp(piece.values + r * n_cols, expected.codes.data(),
                                    expected.codes.size()) == 0 &&
                        std::equal(expected.scales.begin(), expected.scales.end(), scales);
      scales += expected.scales.size();
      REQUIRE_MESSAGE(same, stored.spec.name << " row " << piece.row_begin + r);
    }
  }
}

void check_half(Bundle& bundle, int64_t tensor, const std::vector<float>& weights) {
  PieceBuffer buffer;
  const int64_t n_cols = bundle.tensors()[static_cast<size_t>(tensor)].spec.cols;
  for (int64_t p = 0; p < bundle.n_pieces(tensor); ++p) {
    WeightPiece piece;
    REQUIRE(bundle.read_piece(tensor, p, buffer, &piece).ok());
    const auto* halves = reinterpret_cast<const uint16_t*>(piece.values);
    const float* expected = weights.data() + piece.row_begin * n_cols;
    bool same = true;
    for (int64_t i = 0; i < piece.n_rows * n_cols; ++i)
      same = same && static_cast<double>(half_to_float(halves[i])) ==
                         std::copysign(round_to_half(std::fabs(expected[i])), expected[i]);
    CHECK(same);
  }
}

}  // namespace

TEST_CASE("F32 weights: linear layers in 6 bits, matrices in F16, vectors as they are") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("wide.flexq");
  FloatSource source(wide_config());
  const Status status = quantize(source, "flexq", path);
  REQUIRE_MESSAGE(status.ok(), status.message());
  const std::unique_ptr<Bundle> bundle = open_bundle(path);
  CHECK(bundle->policy() == "flexq");
  for (size_t t = 0; t < bundle->tensors().size(); ++t) {
    const StoredTensor& tensor = bundle->tensors()[t];
    const std::vector<float>& weights = source.values(tensor.spec.name);
    const int64_t index = static_cast<int64_t>(t);
    if (tensor.spec.role == TensorRole::kLinear) {
      CHECK(tensor.format == WeightFormat::kInt6Group);
      CHECK(tensor.activation_bits == (tensor.spec.linear_kind == LinearKind::kDown ? 8 : 6));
      check_quantized(*bundle, index, weights);
    } else if (tensor.spec.is_vector()) {
      CHECK(tensor.format == WeightFormat::kF32);
      PieceBuffer buffer;
      WeightPiece piece;
      REQUIRE(bundle->read_piece(index, 0, buffer, &piece).ok());
      CHECK(std::memcmp(piece.values, weights.data(), weights.size() * 4) == 0);
    } else {
      CHECK(tensor.format == WeightFormat::kF16);
      check_half(*bundle, index, weights);
    }
  }
  CHECK(bundle->n_pieces(8) >= 2);  // gate_proj
}

TEST_CASE("8 bits: linear layers in groups, embedding and lm_head row by row") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("wide.flexq");
  FloatSource source(wide_config());
  for (const int32_t embedding_bits : {16, 8}) {
    for (const int32_t lm_head_bits : {16, 8}) {
      CAPTURE(embedding_bits);
      CAPTURE(lm_head_bits);
      // One policy or the other: they differ in activation bits only.
      const bool quantized_inputs = embedding_bits == lm_head_bits;
      const Status status = quantize(source, quantized_inputs ? "w8a8" : "w8a16", path, {},
                                     embedding_bits, lm_head_bits);
      REQUIRE_MESSAGE(status.ok(), status.message());
      const std::unique_ptr<Bundle> bundle = open_bundle(path);
      for (size_t t = 0; t < bundle->tensors().size(); ++t) {
        const StoredTensor& tensor = bundle->tensors()[t];
        CAPTURE(tensor.spec.name);
        const TensorRole role = tensor.spec.role;
        const bool rows_8 = (role == TensorRole::kEmbedding && embedding_bits == 8) ||
                            (role == TensorRole::kLmHead && lm_head_bits == 8);
        CHECK(tensor.format == (role == TensorRole::kLinear ? WeightFormat::kInt8Group
                                : rows_8                    ? WeightFormat::kInt8Row
                                : tensor.spec.is_vector()   ? WeightFormat::kF32
                                                            : WeightFormat::kF16));
        CHECK(tensor.activation_bits == (role == TensorRole::kLinear && quantized_inputs ? 8 : 16));
        if (is_quantized(tensor.format))
          check_quantized(*bundle, static_cast<int64_t>(t), source.values(tensor.spec.name));
      }
      CHECK(bundle->linear_bits_per_weight() > 6.5);  // zstd gains a little on normal weights
      CHECK(bundle->linear_bits_per_weight() < 8.125 + 0.1);
    }
  }
}

TEST_CASE("tied embeddings are one matrix: 8 bits in either place quantizes it") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("tied.flexq");
  ModelConfig config = small_model_config();
  config.tied_embeddings = true;
  for (const auto& bits :
       {std::pair{16, 16}, std::pair{16, 8}, std::pair{8, 16}, std::pair{8, 8}}) {
    const int embedding_bits = bits.first;
    const int lm_head_bits = bits.second;
    CAPTURE(embedding_bits);
    CAPTURE(lm_head_bits);
    FloatSource source(config);
    REQUIRE(quantize(source, "flexq", path, {}, embedding_bits, lm_head_bits).ok());
    const std::unique_ptr<Bundle> bundle = open_bundle(path);
    const bool quantized = embedding_bits == 8 || lm_head_bits == 8;
    const StoredTensor& embedding = bundle->tensors()[0];
    CHECK(embedding.format == (quantized ? WeightFormat::kInt8Row : WeightFormat::kF16));
    if (quantized) check_quantized(*bundle, 0, source.values(embedding.spec.name));
    CHECK(bundle->tensors().back().spec.role == TensorRole::kNorm);
  }
}

TEST_CASE("policy fp16 keeps linear layers in 16 bits, and F32 where a value does not fit") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("dense.flexq");
  FloatSource source(small_model_config());
  const std::string query = "model.layers.0.self_attn.q_proj.weight";
  const std::string output = "model.layers.0.self_attn.o_proj.weight";
  source.values(query)[100] = -65520.0f;   // would round to infinity
  source.values(output)[100] = -65519.9f;  // rounds to 65504
  REQUIRE(quantize(source, "fp16", path).ok());
  const std::unique_ptr<Bundle> bundle = open_bundle(path);
  CHECK(bundle->linear_bits_per_weight() > 10.0);  // as stored: zstd gains a little on 16 bits
  CHECK(bundle->linear_bits_per_weight() < 17.0);
  for (size_t t = 0; t < bundle->tensors().size(); ++t) {
    const StoredTensor& tensor = bundle->tensors()[t];
    const bool f32 = tensor.spec.is_vector() || tensor.spec.name == query;
    CHECK_MESSAGE(tensor.format == (f32 ? WeightFormat::kF32 : WeightFormat::kF16),
                  tensor.spec.name);
    CHECK(tensor.activation_bits == 16);
    CHECK(tensor.scale_multiplier == 1.0f);
  }
}

TEST_CASE("tensors of very small and very large weights get a multiplier of their own") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("extreme.flexq");
  FloatSource source(small_model_config());
  const std::map<std::string, float> factors = {{"model.layers.0.self_attn.q_proj.weight", 1e-6f},
                                                {"model.layers.0.self_attn.k_proj.weight", 0.0f},
                                                {"model.layers.0.self_attn.v_proj.weight", 1e9f},
                                                {"model.embed_tokens.weight", 1e-7f},
                                                {"lm_head.weight", 1e12f}};
  for (const auto& [name, factor] : factors)
    for (float& weight : source.values(name))
      weight *= factor;
  for (const char* policy : {"w6a16", "w8a16"}) {
    REQUIRE(quantize(source, policy, path, {}, 8, 8).ok());
    const std::unique_ptr<Bundle> bundle = open_bundle(path);
    for (size_t t = 0; t < bundle->tensors().size(); ++t) {
      const StoredTensor& tensor = bundle->tensors()[t];
      if (!is_quantized(tensor.format)) continue;
      CHECK((tensor.scale_multiplier != 1.0f) == (factors.count(tensor.spec.name) == 1));
      check_quantized(*bundle, static_cast<int64_t>(t), source.values(tensor.spec.name));
    }
  }
}

TEST_CASE("weights that cannot be quantized are refused by name, and nothing is written") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("none.flexq");
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  for (const float bad : {NAN, INFINITY, -INFINITY, 3e38f}) {
    FloatSource source(small_model_config());
    source.values(name)[64 * 70 + 3] = bad;
    const Status status = quantize(source, "w6a6", path);
    CHECK(status.code() ==
          (std::isfinite(bad) ? StatusCode::kLimitExceeded : StatusCode::kNonFinite));
    CHECK(status.message().find("tensor " + name + ": ") == 0);
  }
  for (const WeightFormat format :
       {WeightFormat::kInt6Group, WeightFormat::kInt8Group, WeightFormat::kInt8Row}) {
    FloatSource source(small_model_config());
    source.mutable_tensors()[2].format = format;
    CHECK(quantize(source, "w6a6", path).code() == StatusCode::kInvalidArgument);
  }
  for (const std::string matrix : {"model.embed_tokens.weight", "lm_head.weight"}) {
    FloatSource source(small_model_config());
    source.values(matrix)[64 * 70 + 3] = 3e38f;
    const Status status = quantize(source, "w8a8", path, {}, 8, 8);
    CHECK(status.code() == StatusCode::kLimitExceeded);
    CHECK(status.message().find("tensor " + matrix + ": ") == 0);
  }
  CHECK(list_directory(directory.path())->empty());
}

TEST_CASE("progress rises from the first pass to the end of the second, and can stop both") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  std::ofstream(path) << "old";
  FloatSource source(wide_config());
  struct Seen {
    int64_t last = 0;
    int64_t total = 0;
    int64_t stop_at_percent = 1000;
    bool falling = false;
  };
  const auto callback = [](int64_t done, int64_t total, void* user_data) {
    Seen& seen = *static_cast<Seen*>(user_data);
    seen.falling = seen.falling || done < seen.last || (seen.total != 0 && total != seen.total);
    seen.last = done;
    seen.total = total;
    return int32_t{100 * done >= seen.stop_at_percent * total ? 1 : 0};
  };
  for (const int64_t percent : {0, 30, 60, 99}) {
    Seen seen;
    seen.stop_at_percent = percent;
    CHECK(quantize(source, "flexq", path, {callback, &seen}).code() == StatusCode::kCancelled);
    std::ifstream file(path);
    CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == "old");
    CHECK(list_directory(directory.path())->size() == 1);
  }
  Seen seen;
  CHECK(quantize(source, "flexq", path, {callback, &seen}).ok());
  CHECK_FALSE(seen.falling);
  CHECK(seen.last == seen.total);
}

}  // namespace flexq::test
