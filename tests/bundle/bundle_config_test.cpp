// T3: every number of a bundle's config at both of its ends, each end from both sides.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "bundle/bundle_parts.h"
#include "model/model_config.h"

namespace flexq::test {
namespace {

// Small, and with nothing that other limits depend on.
ModelConfig base_config() {
  ModelConfig config = tiny_config();
  config.n_kv_heads = 1;
  config.bos_token_id = -1;
  config.eos_token_ids.clear();
  config.rope.factor = 8;
  config.rope.low_freq_factor = 1;
  config.rope.high_freq_factor = 4;
  config.rope.original_context_tokens = 8192;
  return config;
}

using Set = std::function<void(ModelConfig&)>;

void accept(const Set& set) {
  ModelConfig config = base_config();
  set(config);
  const Status status = validate_config(config, "x");
  CHECK_MESSAGE(status.ok(), status.message());
}

// `begin`: how the message begins, behind the source's name.
void refuse(const Set& set, StatusCode code, const std::string& begin) {
  ModelConfig config = base_config();
  set(config);
  const Status status = validate_config(config, "x");
  CHECK(status.code() == code);
  const std::string message = status.message();
  CHECK_MESSAGE(message.starts_with("x: " + begin), message << " does not begin with: " << begin);
}

constexpr auto kTooMuch = StatusCode::kLimitExceeded;
constexpr auto kWrong = StatusCode::kCorrupt;

}  // namespace

TEST_CASE("T3_limits: every integer of the config") {
  struct Field {
    const char* name;
    std::function<void(ModelConfig&, int32_t)> set;
    int32_t low;
    int32_t high;
  };
  const auto llama3 = [](ModelConfig& c, int32_t x) {
    c.rope.type = RopeType::kLlama3;
    c.rope.original_context_tokens = x;
  };
  const auto kv_heads = [](ModelConfig& c, int32_t x) {
    c.n_heads = x >= 1 && x <= 1024 ? x : 4;
    c.n_kv_heads = x;
  };
  const auto eos_count = [](ModelConfig& c, int32_t n) {
    c.eos_token_ids.assign(static_cast<size_t>(n), 2);
  };
  const auto rope_type = [](ModelConfig& c, int32_t x) { c.rope.type = static_cast<RopeType>(x); };
  const Field fields[] = {
      {"n_layers", [](auto& c, int32_t x) { c.n_layers = x; }, 1, 1024},
      {"n_embd", [](auto& c, int32_t x) { c.n_embd = x; }, 1, 1 << 18},
      {"n_heads (", [](auto& c, int32_t x) { c.n_heads = x; }, 1, 1024},
      {"n_kv_heads", kv_heads, 1, 1024},
      {"n_ff", [](auto& c, int32_t x) { c.n_ff = x; }, 1, 1 << 18},
      {"n_vocab", [](auto& c, int32_t x) { c.n_vocab = x; }, 1, 1 << 20},
      {"context_tokens", [](auto& c, int32_t x) { c.context_tokens = x; }, 1, 1 << 22},
      {"rope original_max_position_embeddings", llama3, 1, 1 << 22},
      {"bos_token_id", [](auto& c, int32_t x) { c.bos_token_id = x; }, -1, 31},
      {"eos_token_id",
       [](auto& c, int32_t x) {
         c.eos_token_ids = {1, x};
       },
       0, 31},
  };
  for (const Field& field : fields) {
    const std::string name = field.name;
    const auto with = [&](int32_t x) { return [&, x](ModelConfig& c) { field.set(c, x); }; };
    accept(with(field.low));
    accept(with(field.high));
    refuse(with(field.low - 1), kWrong, name);
    refuse(with(INT32_MIN), kWrong, name);
    refuse(with(field.high + 1), kTooMuch, name);
    refuse(with(INT32_MAX), kTooMuch, name);
  }
  accept([&](ModelConfig& c) { eos_count(c, 16); });
  refuse([&](ModelConfig& c) { eos_count(c, 17); }, kTooMuch, "number of eos_token_id is 17");
  accept([&](ModelConfig& c) { rope_type(c, 2); });
  refuse([&](ModelConfig& c) { rope_type(c, 3); }, kTooMuch, "rope type is 3");
}

TEST_CASE("T3_limits: heads of the config") {
  const auto heads = [](int32_t n_heads, int32_t n_kv_heads, int32_t head_dim) {
    return [=](ModelConfig& c) {
      c.n_heads = n_heads;
      c.n_kv_heads = n_kv_heads;
      c.head_dim = head_dim;
    };
  };
  accept(heads(1, 1, 2));
  accept(heads(1, 1, 1024));
  refuse(heads(1, 1, 0), kWrong, "head_dim is 0, expected 1 to 1024");
  refuse(heads(1, 1, 1), kWrong, "head_dim is 1, expected a multiple of 2");
  refuse(heads(1, 1, 1025), kTooMuch, "head_dim is 1025, expected 1 to 1024");
  accept(heads(1024, 8, 256));
  refuse(heads(1024, 8, 258), kTooMuch, "n_heads * head_dim is 264192");
  accept(heads(6, 3, 16));
  refuse(heads(6, 4, 16), kWrong, "n_heads (num_attention_heads) is 6, expected a multiple of");
  refuse(heads(4, 0, 16), kWrong, "n_kv_heads (num_key_value_heads) is 0");
}

TEST_CASE("T3_limits: every real number of the config") {
  struct Field {
    const char* name;
    std::function<void(ModelConfig&, double)> set;
    std::vector<double> good;
    std::vector<double> too_small;
    std::vector<double> too_large;
  };
  const auto llama3 = [](auto set) {
    return [set](ModelConfig& c, double x) {
      c.rope.type = RopeType::kLlama3;
      set(c.rope, x);
    };
  };
  const auto low_freq = [](RopeConfig& r, double x) {
    r.low_freq_factor = x;
    r.high_freq_factor = 1e6;
  };
  const auto high_freq = [](RopeConfig& r, double x) {
    r.low_freq_factor = 1e-6;
    r.high_freq_factor = x;
  };
  const auto difference = [](RopeConfig& r, double x) { r.high_freq_factor = 1 + x; };
  const auto linear = [](ModelConfig& c, double x) {
    c.rope.type = RopeType::kLinear;
    c.rope.factor = x;
  };
  const Field fields[] = {
      {"rms_norm_eps",
       [](auto& c, double x) { c.rms_norm_eps = static_cast<float>(x); },
       {1.01e-37, 1.0},
       {-1, 0, 0.99e-37},
       {1.01, HUGE_VAL}},
      {"rope_theta",
       [](auto& c, double x) { c.rope.theta = x; },
       {1, 1e12},
       {-1, 0, 0.9},
       {1.1e12, HUGE_VAL}},
      {"rope factor", linear, {1, 1e6}, {-8, 0, 0.9}, {1.1e6, HUGE_VAL}},
      {"rope factor",
       llama3([](RopeConfig& r, double x) { r.factor = x; }),
       {1, 1e6},
       {-8, 0, 0.9},
       {1.1e6, HUGE_VAL}},
      {"rope low_freq_factor is",
       llama3(low_freq),
       {1.01e-6, 9e5},
       {-1, 0, 0.9e-6},
       {1.1e6, HUGE_VAL}},
      {"rope high_freq_factor is",
       llama3(high_freq),
       {2.01e-6, 1e6},
       {-1, 0, 0.9e-6},
       {1.1e6, HUGE_VAL}},
      {"rope high_freq_factor - low_freq_factor is",
       llama3(difference),
       {1.1e-6, 9e5},
       {-0.5, 0, 0.9e-6},
       {}},
  };
  for (const Field& field : fields) {
    const auto with = [&](double x) { return [&, x](ModelConfig& c) { field.set(c, x); }; };
    for (const double x : field.good)
      accept(with(x));
    for (const double x : field.too_small)
      refuse(with(x), kWrong, field.name);
    for (const double x : field.too_large)
      refuse(with(x), kTooMuch, field.name);
    const std::string first_word = std::string(field.name).substr(0, 9);
    refuse(with(std::numeric_limits<double>::quiet_NaN()), kWrong, first_word);
  }
  // A high_freq_factor that is good in itself, and too near to the other one.
  refuse(
      [&](ModelConfig& c) {
        c.rope.type = RopeType::kLlama3;
        high_freq(c.rope, 1.5e-6);
      },
      kWrong, "rope high_freq_factor - low_freq_factor is");
}

TEST_CASE("T3_limits: biases are tensors where the config has them, and only there") {
  const auto n_tensors = [](bool attention_bias, bool mlp_bias, bool tied) {
    ModelConfig config = base_config();
    config.n_layers = 2;
    config.attention_bias = attention_bias;
    config.mlp_bias = mlp_bias;
    config.tied_embeddings = tied;
    return expected_tensors(config).size();
  };
  CHECK(n_tensors(false, false, false) == 2 * 9 + 3);
  CHECK(n_tensors(false, false, true) == 2 * 9 + 2);
  CHECK(n_tensors(true, false, false) == 2 * (9 + 4) + 3);
  CHECK(n_tensors(false, true, false) == 2 * (9 + 3) + 3);
  CHECK(n_tensors(true, true, true) == 2 * (9 + 7) + 2);
}

TEST_CASE("T3_limits: what a rope type does not use is not judged") {
  const auto unused = [](RopeConfig& rope) {
    rope.low_freq_factor = rope.high_freq_factor = 0;
    rope.original_context_tokens = 0;
  };
  accept([&](ModelConfig& c) {
    unused(c.rope);
    c.rope.factor = 0;
  });
  accept([&](ModelConfig& c) {
    unused(c.rope);
    c.rope.type = RopeType::kLinear;
  });
}

TEST_CASE("T3_limits: of several wrong numbers of the config the first is told") {
  refuse([](ModelConfig& c) { c.n_layers = c.n_embd = 0, c.rms_norm_eps = 0; }, kWrong, "n_layers");
  refuse([](ModelConfig& c) { c.n_heads = 3, c.n_kv_heads = 2, c.head_dim = 15; }, kWrong,
         "n_heads (num_attention_heads) is 3");
  refuse([](ModelConfig& c) { c.head_dim = 15, c.rope.theta = 0, c.bos_token_id = -2; }, kWrong,
         "head_dim is 15");
}

}  // namespace flexq::test
