// Channel equalization: exact before quantization, worth it after.
#include "quantize/channel_equalization.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/thread_pool.h"
#include "model/synthetic_source.h"
#include "quantize/equalized_source.h"
#include "quantize/layer_walk.h"

namespace flexq::test {
namespace {

constexpr int64_t kTokens = 96;
constexpr int64_t kRows = 80;

// A linear layer over one group of channels and the inputs that it reads.
struct Layer {
  int64_t n_channels;
  std::vector<float> inputs;   // (kTokens, n_channels)
  std::vector<float> weights;  // (kRows, n_channels)

  explicit Layer(int64_t channels, uint32_t seed) : n_channels(channels) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < kTokens * n_channels; ++i)
      inputs.push_back(normal(random));
    for (int64_t i = 0; i < kRows * n_channels; ++i)
      weights.push_back(0.05f * normal(random));
  }
  // The same outputs, with inputs 2^e times as large in one channel.
  void stretch(int64_t channel, int exponent) {
    for (int64_t t = 0; t < kTokens; ++t)
      inputs[at(t * n_channels + channel)] *= std::ldexp(1.0f, exponent);
    for (int64_t n = 0; n < kRows; ++n)
      weights[at(n * n_channels + channel)] *= std::ldexp(1.0f, -exponent);
  }
  Layer equalized(const std::vector<int8_t>& exponents) const {
    Layer layer = *this;
    for (int64_t j = 0; j < n_channels; ++j)
      layer.stretch(j, -exponents[at(j)]);
    return layer;
  }
  std::vector<int8_t> solve(int32_t activation_bits, int32_t weight_bits) const {
    const ChannelReader reader = {weights.data(), kRows, n_channels, activation_bits};
    return equalize_group({inputs.data(), kTokens, n_channels}, n_channels, {&reader, 1},
                          weight_bits);
  }
  // Squared error of the outputs when both sides are rounded, in double precision.
  double error(int32_t activation_bits, int32_t weight_bits) const {
    const std::vector<double> x = rounded(inputs, kTokens, activation_bits);
    const std::vector<double> w = rounded(weights, kRows, weight_bits);
    double sum = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t n = 0; n < kRows; ++n) {
        double difference = 0;
        for (int64_t j = 0; j < n_channels; ++j)
          difference +=
              x[at(t * n_channels + j)] * w[at(n * n_channels + j)] -
              double{inputs[at(t * n_channels + j)]} * double{weights[at(n * n_channels + j)]};
        sum += difference * difference;
      }
    }
    return sum;
  }

  static size_t at(int64_t index) { return static_cast<size_t>(index); }

 private:
  std::vector<double> rounded(const std::vector<float>& values, int64_t n_vectors,
                              int32_t bits) const {
    std::vector<double> out(values.begin(), values.end());
    if (bits == 16) return out;
    const double largest_code = (1 << (bits - 1)) - 1;
    for (int64_t v = 0; v < n_vectors; ++v) {
      double largest = 0;
      for (int64_t j = 0; j < n_channels; ++j)
        largest = std::max(largest, std::fabs(out[at(v * n_channels + j)]));
      const double scale = largest / largest_code;
      for (int64_t j = 0; j < n_channels; ++j) {
        double& value = out[at(v * n_channels + j)];
        value = std::nearbyint(value / scale) * scale;
      }
    }
    return out;
  }
};

// A synthetic model whose biases are not zero.
class BiasedSource : public SyntheticSource {
 public:
  explicit BiasedSource(const ModelConfig& config)
      : SyntheticSource(config, unquantized_tensors(config), 7) {}
  Status read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer, WeightPiece* out) override {
    FLEXQ_RETURN_IF_ERROR(SyntheticSource::read_piece(tensor, piece, buffer, out));
    const TensorSpec& spec = tensors()[static_cast<size_t>(tensor)].spec;
    if (spec.role != TensorRole::kBias) return {};
    auto* const values = reinterpret_cast<float*>(buffer.decoded.data());
    for (int64_t i = 0; i < spec.cols; ++i)
      values[i] = 0.01f * static_cast<float>(i % 7 - 3);
    return {};
  }
};

// The residual stream behind all layers, for some tokens.
std::vector<float> final_state(WeightSource& ends, WeightSource& source, ThreadPool& pool) {
  constexpr int32_t kWindow = 48;
  auto walk = LayerWalk::create(ends, kWindow, pool);
  REQUIRE(walk.ok());
  std::vector<int32_t> tokens(kWindow);
  for (int32_t i = 0; i < kWindow; ++i)
    tokens[static_cast<size_t>(i)] = 3 + 5 * i;
  std::vector<float> state(static_cast<size_t>((*walk)->state_floats()));
  REQUIRE((*walk)->embed(tokens, state.data()).ok());
  for (int32_t layer = 0; layer < source.config().n_layers; ++layer) {
    const auto model = (*walk)->load_layer(source, layer);
    REQUIRE_MESSAGE(model.ok(), model.status().message());
    REQUIRE((*walk)->run_layer(**model, kUnquantizedInputs, state.data()).ok());
  }
  return state;
}

}  // namespace

TEST_CASE("equalization: an outlier channel is found and costs nothing afterwards") {
  for (const int64_t n_channels : {128, 44}) {
    const Layer plain(n_channels, 1);
    Layer planted = plain;
    planted.stretch(17, 4);
    const std::vector<int8_t> exponents = planted.solve(6, 6);
    REQUIRE(exponents.size() == static_cast<size_t>(n_channels));
    // The others may have moved together by one.
    CHECK(std::abs(exponents[17] - exponents[16] - 4) <= 1);
    const double before = planted.error(6, 6);
    const double after = planted.equalized(exponents).error(6, 6);
    CHECK(before > 10 * plain.error(6, 6));
    CHECK(after < 1.15 * plain.error(6, 6));
  }
}

TEST_CASE("equalization: both sides count, as their bits ask") {
  // Some channels have large inputs, others large weights.
  Layer layer(128, 2);
  std::mt19937 random(3);
  for (int64_t j = 0; j < layer.n_channels; ++j) {
    const float of_input = std::exp2(std::normal_distribution<float>(0, 1)(random));
    const float of_weight = std::exp2(std::normal_distribution<float>(0, 1)(random));
    for (int64_t t = 0; t < kTokens; ++t)
      layer.inputs[Layer::at(t * layer.n_channels + j)] *= of_input;
    for (int64_t n = 0; n < kRows; ++n)
      layer.weights[Layer::at(n * layer.n_channels + j)] *= of_weight;
  }
  for (const int32_t weight_bits : {6, 8}) {
    for (const int32_t activation_bits : {6, 8, 16}) {
      CAPTURE(weight_bits);
      CAPTURE(activation_bits);
      const std::vector<int8_t> exponents = layer.solve(activation_bits, weight_bits);
      const double before = layer.error(activation_bits, weight_bits);
      const double after = layer.equalized(exponents).error(activation_bits, weight_bits);
      CHECK(after < 0.9 * before);
      // Nor does another round find more.
      for (const int8_t exponent : layer.equalized(exponents).solve(activation_bits, weight_bits))
        CHECK(std::abs(exponent) <= 1);
    }
  }
}

TEST_CASE("equalization: nothing to do, nothing to read, nothing but zeros") {
  std::vector<float> inputs(8 * 4, 1.0f), weights(6 * 4, 0.5f);
  const ChannelReader reader = {weights.data(), 6, 4, 6};
  const std::vector<int8_t> none(4);
  CHECK(equalize_group({inputs.data(), 8, 4}, 4, {&reader, 1}, 6) == none);
  CHECK(equalize_group({inputs.data(), 0, 4}, 4, {&reader, 1}, 6) == none);
  std::fill(inputs.begin(), inputs.end(), 0.0f);
  CHECK(equalize_group({inputs.data(), 8, 4}, 4, {&reader, 1}, 6) == none);
  std::fill(weights.begin(), weights.end(), 0.0f);
  CHECK(equalize_group({inputs.data(), 8, 4}, 4, {&reader, 1}, 6) == none);
}

TEST_CASE("equalization: an equalized model computes the same bits") {
  ModelConfig config;
  config.n_layers = 2;
  config.n_embd = 96;
  config.n_heads = config.n_kv_heads = 4;
  config.head_dim = 16;
  config.n_ff = 144;
  config.n_vocab = 260;
  config.context_tokens = 64;
  config.attention_bias = config.mlp_bias = true;
  BiasedSource source(config);
  std::mt19937 random(4);
  const auto exponents = [&](int64_t n) {
    std::vector<int8_t> drawn(static_cast<size_t>(n));
    for (int8_t& exponent : drawn)
      exponent = static_cast<int8_t>(
          std::uniform_int_distribution<int>(-kMostEqualization, kMostEqualization)(random));
    return drawn;
  };
  Equalization equalization(2);
  for (LayerEqualization& layer : equalization)
    layer = {exponents(96), exponents(64), exponents(96), exponents(144)};
  ThreadPool pool(2);
  const std::vector<float> expected = final_state(source, source, pool);
  EqualizedSource none(source, Equalization(2));
  EqualizedSource equalized(source, equalization);
  CHECK(final_state(source, equalized, pool) == expected);
  // Each place by itself, which the others cannot make up for.
  for (size_t point = 0; point < kInputPoints; ++point) {
    CAPTURE(point);
    Equalization alone(2);
    alone[1][point] = equalization[1][point];
    EqualizedSource one(source, alone);
    CHECK(final_state(source, one, pool) == expected);
    PieceBuffer buffers[2];
    int64_t n_changed = 0;
    for (size_t i = 0; i < one.tensors().size(); ++i) {
      WeightPiece before, after;
      REQUIRE(none.read_piece(static_cast<int64_t>(i), 0, buffers[0], &before).ok());
      REQUIRE(one.read_piece(static_cast<int64_t>(i), 0, buffers[1], &after).ok());
      const StoredTensor& tensor = one.tensors()[i];
      const int64_t bytes = before.n_rows * tensor.spec.cols * element_bytes(tensor.format);
      n_changed += std::memcmp(before.values, after.values, static_cast<size_t>(bytes)) != 0;
    }
    // A norm and what reads it; a matrix, its bias and what reads them.
    const int64_t places[] = {4, 3, 3, 3};
    CHECK(n_changed == places[point]);
  }
}

}  // namespace flexq::test
