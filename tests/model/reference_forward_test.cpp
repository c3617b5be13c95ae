// The model against an independent implementation, over the variants of LLaMA that there are.
#include "model/reference_forward.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "runtime/runtime_fixtures.h"
#include "support/synthetic_byte_level.h"
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

// A checkpoint of random weights, and the model that the library reads from it.
struct RandomModel {
  explicit RandomModel(const SyntheticOptions& options)
      : files(make_synthetic_checkpoint(options)), config(options.config) {
    const TemporaryDirectory directory;
    write_files(directory.path(), files);
    model = open_test_model(directory.path());
    REQUIRE(model->llama->config() == config);
  }

  const SyntheticFiles files;
  const ModelConfig config;
  std::shared_ptr<const LoadedModel> model;
};

SyntheticOptions random_weights(const ModelConfig& config, WeightFormat format) {
  SyntheticOptions options;
  options.config = config;
  options.format = format;
  options.seed = 77;
  return options;
}

// Runs `tokens` through the library and the reference, compares every row, and returns the
// reference's.
std::vector<ReferenceModel::Row> check_forward(const RandomModel& random,
                                               const std::vector<int32_t>& tokens) {
  const ModelConfig& config = random.config;
  ContextOptions options;
  options.n_outputs = static_cast<int32_t>(tokens.size());
  options.chunk_tokens = 17;
  const auto context = value_of(Context::create(random.model, options));
  REQUIRE(context->plan().shape.kv_type == KvType::kF32);
  const BatchItem item{0, tokens, OutputRows::kAll};
  require_ok(context->decode({&item, 1}, kNeverStop));

  std::vector<ReferenceModel::Row> rows = ReferenceModel(random.files, config).forward(tokens);
  REQUIRE(context->output_count() == options.n_outputs);
  for (size_t row = 0; row < rows.size(); ++row) {
    const auto index = static_cast<int32_t>(row);
    check_row("hidden", row, value_of(context->hidden_row(index)), rows[row].hidden,
              tolerance(config, rows[row].hidden));
    check_row("logits", row, value_of(context->logits_row(index)), rows[row].logits,
              tolerance(config, rows[row].logits));
  }
  return rows;
}

}  // namespace

TEST_CASE("logits agree with an independent double-precision forward pass") {
  for (const Variant& variant : kVariants) {
    CAPTURE(variant.what);
    const std::vector<int32_t> tokens = random_tokens(40, variant.n_vocab, 5);
    for (const WeightFormat format :
         {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kBF16}) {
      CAPTURE(static_cast<int>(format));
      check_forward(RandomModel(random_weights(config_of(variant), format)), tokens);
    }
  }
}

TEST_CASE("a LLaMA 3 in small: from a text to logits far beyond the context it was trained for") {
  // What LLaMA 3.2 is: byte-level BPE, grouped heads of an explicit size, a tied head, theta
  // 500000, llama3 rope. Wavelengths of 6, 32 and 167 tokens and more against 64 trained ones:
  // kept, blended, divided.
  const Variant variant{"LLaMA 3.2", 2,     96,
                        8,           2,     16,
                        256,         600,   {RopeType::kLlama3, 500000.0, 8.0, 1.0, 4.0, 64},
                        true,        false, false};
  SyntheticOptions options = random_weights(config_of(variant), WeightFormat::kBF16);
  ModelConfig& config = options.config;
  config.context_tokens = 320;
  config.bos_token_id = synthetic_special_id(config.n_vocab, 0);
  options.byte_level_tokenizer = true;
  options.rope_dialect = RopeDialect::kNew;
  REQUIRE(config.head_dim != config.n_embd / config.n_heads);
  const RandomModel random(options);
  const Tokenizer& tokenizer = *random.model->tokenizer;
  CHECK(tokenizer.data().kind == TokenizerKind::kByteLevelBpe);

  std::string text;
  for (int i = 0; text.size() < 1600; ++i)
    text += "It's " + std::to_string(i * i * 37) + " na\u00efve \u65e5\u672c \U0001F600's,  ";
  std::vector<int32_t> tokens = value_of(tokenizer.encode(text));
  REQUIRE(tokens.size() > 300);
  tokens.resize(300);
  CHECK(tokens[0] == config.bos_token_id);
  // Bytes, and tokens that merges made of them.
  CHECK(std::any_of(tokens.begin() + 1, tokens.end(), [](int32_t id) { return id < 256; }));
  CHECK(std::any_of(tokens.begin() + 1, tokens.end(), [](int32_t id) { return id >= 256; }));
  const auto rows = check_forward(random, tokens);

  // The scaling is no small matter here: without it the last rows are others altogether.
  const double bound = tolerance(config, rows.back().logits);
  config.rope = {RopeType::kDefault, config.rope.theta};
  const auto other_rows = check_forward(RandomModel(options), tokens);
  double largest = 0;
  for (size_t i = 0; i < rows.back().logits.size(); ++i)
    largest = std::max(largest, std::fabs(rows.back().logits[i] - other_rows.back().logits[i]));
  CHECK(largest > 1000 * bound);
}

}  // namespace flexq::test
