// The model against an independent implementation, over the variants of LLaMA that there are.
#include "model/reference_forward.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "runtime/runtime_fixtures.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

struct Variant {
  std::string what;
  int32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab;
  RopeConfig rope;
  bool tied, attention_bias, mlp_bias;
};

constexpr RopeConfig kDefaultRope{};
constexpr RopeConfig kLinearRope{RopeType::kLinear, 10000.0, 4.0};
// Trained for 32 tokens, so that the 40 of the test see all three bands of frequencies.
constexpr RopeConfig kLlama3Rope{RopeType::kLlama3, 500.0, 8.0, 1.0, 4.0, 32};

const Variant kVariants[] = {
    {"multi-head", 2, 64, 4, 4, 16, 160, 320, kDefaultRope, false, false, false},
    {"grouped, linear rope", 2, 64, 4, 2, 16, 160, 320, kLinearRope, false, false, false},
    {"multi-query, heads wider than n_embd, llama3 rope", 3, 72, 6, 1, 20, 130, 261, kLlama3Rope,
     true, false, false},
    {"attention bias, heads narrower than n_embd", 2, 50, 3, 3, 6, 34, 300, kDefaultRope, false,
     true, false},
    {"all biases, tied", 1, 128, 8, 2, 16, 384, 512, kLinearRope, true, true, true},
};

ModelConfig config_of(const Variant& variant) {
  ModelConfig config = small_model_config();
  config.n_layers = variant.n_layers;
  config.n_embd = variant.n_embd;
  config.n_heads = variant.n_heads;
  config.n_kv_heads = variant.n_kv_heads;
  config.head_dim = variant.head_dim;
  config.n_ff = variant.n_ff;
  config.n_vocab = variant.n_vocab;
  config.rope = variant.rope;
  config.tied_embeddings = variant.tied;
  config.attention_bias = variant.attention_bias;
  config.mlp_bias = variant.mlp_bias;
  return config;
}

// A row passes through 7 products, 2 norms, a rotation and a softmax per layer, and one more norm
// and product. In fp32 each adds an error of at most (roundings on the longest path) * 2^-24 of the
// norms of its inputs; dot16 has K / 16 + 5 of them. With weights of norm about 1 per row that is a
// bound for each element, relative to the row's root mean square.
double tolerance(const ModelConfig& config, const Vector& row) {
  const double longest = std::max({config.n_embd, config.n_heads * config.head_dim, config.n_ff});
  const double roundings = (11.0 * config.n_layers + 2) * (longest / 16 + 5);
  double mean_square = 0;
  for (const double value : row)
    mean_square += value * value / static_cast<double>(row.size());
  return roundings * 0x1p-24 * std::sqrt(mean_square);
}

void check_row(const char* what, size_t row, const float* found, const Vector& expected,
               double bound) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = found[i];
    if (!(std::fabs(value - expected[i]) <= bound)) {
      FAIL(what << "[" << row << ", " << i << "]: " << value << ", expected " << expected[i]
                << " +- " << bound);
    }
  }
}

}  // namespace

TEST_CASE("logits agree with an independent double-precision forward pass") {
  for (const Variant& variant : kVariants) {
    for (const WeightFormat format :
         {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kBF16}) {
      CAPTURE(variant.what);
      CAPTURE(static_cast<int>(format));
      SyntheticOptions synthetic;
      synthetic.config = config_of(variant);
      synthetic.format = format;
      synthetic.seed = 77;
      const SyntheticFiles files = make_synthetic_checkpoint(synthetic);
      const TemporaryDirectory directory;
      write_files(directory.path(), files);
      const auto model = open_test_model(directory.path());
      REQUIRE(model->llama->config() == synthetic.config);

      ContextOptions options;
      options.n_outputs = 40;
      options.chunk_tokens = 17;
      const auto context = value_of(Context::create(model, options));
      REQUIRE(context->plan().shape.kv_type == KvType::kF32);
      const std::vector<int32_t> tokens = random_tokens(40, variant.n_vocab, 5);
      const BatchItem item{0, tokens, OutputRows::kAll};
      require_ok(context->decode({&item, 1}, kNeverStop));

      const auto rows = ReferenceModel(files, synthetic.config).forward(tokens);
      REQUIRE(context->output_count() == 40);
      for (size_t row = 0; row < rows.size(); ++row) {
        const auto index = static_cast<int32_t>(row);
        check_row("hidden", row, context->hidden_row(index), rows[row].hidden,
                  tolerance(synthetic.config, rows[row].hidden));
        check_row("logits", row, context->logits_row(index), rows[row].logits,
                  tolerance(synthetic.config, rows[row].logits));
      }
    }
  }
}

}  // namespace flexq::test
