// Synthetic weights: the same every time, distributed as promised, and fit to run.
#include "model/synthetic_source.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"

namespace flexq::test {
namespace {

// An embedding of several pieces, whose last one is short.
ModelConfig config_of_pieces() {
  ModelConfig config = small_model_config();
  config.n_vocab = 70'001;
  return config;
}

// Linear layers in `linear`, embedding and lm_head in `rows`.
SyntheticSource make_source(const ModelConfig& config, WeightFormat linear, WeightFormat rows,
                            uint64_t seed = 1) {
  std::vector<StoredTensor> tensors = unquantized_tensors(config);
  for (StoredTensor& tensor : tensors) {
    if (tensor.spec.role == TensorRole::kLinear) {
      tensor.format = linear;
      if (is_grouped(linear)) tensor.activation_bits = 8;
    } else if (!tensor.spec.is_vector()) {
      tensor.format = rows;
    }
  }
  return SyntheticSource(config, std::move(tensors), seed);
}

struct Formats {
  WeightFormat linear;
  WeightFormat rows;
};
constexpr Formats kFormats[] = {{WeightFormat::kF16, WeightFormat::kF32},
                                {WeightFormat::kBF16, WeightFormat::kF16},
                                {WeightFormat::kF32, WeightFormat::kBF16},
                                {WeightFormat::kInt6Group, WeightFormat::kF16},
                                {WeightFormat::kInt8Group, WeightFormat::kInt8Row}};

// One tensor, read piece by piece: its weights, and its bytes with the scales behind each piece.
struct Contents {
  std::vector<float> weights;
  std::vector<uint8_t> bytes;
};

float dense_value(WeightFormat format, const uint8_t* at) {
  uint32_t word = 0;
  uint16_t half = 0;
  if (format == WeightFormat::kF32) {
    std::memcpy(&word, at, sizeof word);
    return std::bit_cast<float>(word);
  }
  std::memcpy(&half, at, sizeof half);
  return format == WeightFormat::kF16 ? half_to_float(half) : bf16_to_float(half);
}

Contents read_tensor(SyntheticSource& source, int64_t tensor) {
  const StoredTensor& stored = source.tensors()[static_cast<size_t>(tensor)];
  const int64_t cols = stored.spec.cols;
  const int64_t n_scales = scales_per_row(stored.format, cols);
  Contents contents;
  PieceBuffer buffer;
  int64_t row = 0;
  bool codes_in_range = true;
  for (int64_t p = 0; p < source.n_pieces(tensor); ++p) {
    WeightPiece piece;
    require_ok(source.read_piece(tensor, p, buffer, &piece));
    CHECK(piece.row_begin == row);
    CHECK(piece.n_rows > 0);
    row += piece.n_rows;
    CHECK((row == stored.spec.rows || row % 16 == 0));
    const int64_t n = piece.n_rows * cols;
    contents.bytes.insert(contents.bytes.end(), piece.values,
                          piece.values + n * element_bytes(stored.format));
    CHECK((piece.scales != nullptr) == is_quantized(stored.format));
    for (int64_t i = 0; i < n; ++i) {
      if (!is_quantized(stored.format)) {
        contents.weights.push_back(
            dense_value(stored.format, piece.values + i * element_bytes(stored.format)));
        continue;
      }
      const int code = static_cast<int8_t>(piece.values[i]);
      codes_in_range = codes_in_range && std::abs(code) <= max_weight_code(stored.format);
      const int64_t group = is_grouped(stored.format) ? i % cols / kGroupSize : 0;
      const float scale = half_to_float(piece.scales[i / cols * n_scales + group]);
      contents.weights.push_back(static_cast<float>(code) * scale * stored.scale_multiplier);
    }
    const auto* scales = reinterpret_cast<const uint8_t*>(piece.scales);
    if (scales != nullptr)
      contents.bytes.insert(contents.bytes.end(), scales, scales + 2 * piece.n_rows * n_scales);
  }
  CHECK(row == stored.spec.rows);
  CHECK(codes_in_range);
  return contents;
}

double mean_product(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum / static_cast<double>(a.size());
}

void check_distribution(const TensorSpec& spec, const std::vector<float>& weights) {
  if (spec.is_vector()) {
    const float expected = spec.role == TensorRole::kNorm ? 1.0f : 0.0f;
    CHECK(std::all_of(weights.begin(), weights.end(), [&](float w) { return w == expected; }));
    return;
  }
  const double n = static_cast<double>(weights.size());
  const double deviation = 1 / std::sqrt(static_cast<double>(spec.cols));
  const double mean = mean_product(weights, std::vector<float>(weights.size(), 1.0f));
  const double square = mean_product(weights, weights);
  // Five standard errors, and the 1% that 256 quantiles lack in variance.
  CHECK(std::fabs(mean) <= 5 * deviation / std::sqrt(n));
  CHECK(std::fabs(std::sqrt(square) / deviation - 1) <= 5 / std::sqrt(2 * n) + 0.01);
}

}  // namespace

TEST_CASE("synthetic weights of every format: all rows, right statistics, the same bytes again") {
  for (const Formats& formats : kFormats) {
    CAPTURE(static_cast<int>(formats.linear));
    CAPTURE(static_cast<int>(formats.rows));
    ModelConfig config = config_of_pieces();
    config.attention_bias = true;
    SyntheticSource source = make_source(config, formats.linear, formats.rows);
    SyntheticSource again = make_source(config, formats.linear, formats.rows);
    REQUIRE(source.tensors().size() == expected_tensors(config).size());
    CHECK(source.n_pieces(0) > 1);
    for (size_t t = source.tensors().size(); t-- > 0;) {  // backwards: the order does not matter
      CAPTURE(source.tensors()[t].spec.name);
      const auto index = static_cast<int64_t>(t);
      const Contents contents = read_tensor(source, index);
      CHECK(std::all_of(contents.weights.begin(), contents.weights.end(),
                        [](float w) { return std::isfinite(w); }));
      check_distribution(source.tensors()[t].spec, contents.weights);
      CHECK(read_tensor(again, index).bytes == contents.bytes);
    }
  }
}

TEST_CASE("synthetic weights differ between tensors and seeds") {
  const ModelConfig config = small_model_config();
  SyntheticSource source = make_source(config, WeightFormat::kF16, WeightFormat::kF16);
  SyntheticSource other = make_source(config, WeightFormat::kF16, WeightFormat::kF16, 2);
  const auto index_of = [&](const std::string& name) {
    int64_t index = 0;
    while (source.tensors()[static_cast<size_t>(index)].spec.name != name)
      ++index;
    return index;
  };
  const std::vector<float> first =
      read_tensor(source, index_of("model.layers.0.mlp.up_proj.weight")).weights;
  const double bound = 5.0 / 64 / std::sqrt(static_cast<double>(first.size()));  // variance 1 / 64
  for (const std::vector<float>& unlike :
       {read_tensor(source, index_of("model.layers.0.mlp.gate_proj.weight")).weights,
        read_tensor(source, index_of("model.layers.1.mlp.up_proj.weight")).weights,
        read_tensor(other, index_of("model.layers.0.mlp.up_proj.weight")).weights})
    CHECK(std::fabs(mean_product(first, unlike)) <= bound);
}

TEST_CASE("a synthetic model of any format runs and stays finite") {
  ModelConfig config = small_model_config();
  config.n_layers = 24;  // activations neither grow nor fade over many layers
  for (const Formats& formats : kFormats) {
    CAPTURE(static_cast<int>(formats.linear));
    ModelSource source;
    source.weights =
        std::make_shared<SyntheticSource>(make_source(config, formats.linear, formats.rows));
    source.policy = is_quantized(formats.linear) ? "w8a8" : "none";
    LoadOptions load_options;
    load_options.n_threads = 2;
    const auto model =
        value_of(load_model(source, load_options, [](int64_t, int64_t) { return false; }));
    CHECK(model->tokenizer == nullptr);
    ContextOptions options;
    options.n_outputs = 40;
    const auto context = value_of(Context::create(model, options));
    CHECK(context->plan().shape.kv_type ==
          (is_quantized(formats.linear) ? KvType::kF16 : KvType::kF32));
    const OutputRowsCopy rows = decode_rows(*context, 0, random_tokens(40, config.n_vocab, 4));
    const double square = mean_product(rows.logits, rows.logits);
    CHECK(square > 0.5);
    CHECK(square < 2.0);
  }
}

}  // namespace flexq::test
