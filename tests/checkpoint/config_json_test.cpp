#include "checkpoint/config_json.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "expect_error.h"
#include "support/synthetic_checkpoint.h"

using namespace flexq;
using namespace flexq::test;

namespace {

constexpr char kPath[] = "dir/config.json";

// What transformers 4 wrote for a LLaMA-3.1-like model, cut to the architecture.
constexpr char kLlama31[] = R"({
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
  "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
  "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
  "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
  "pretraining_tp": 2, "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                   "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
  "quantization_config": null, "use_cache": true, "vocab_size": 128256})";

// LLaMA-1 as first converted: no num_key_value_heads, head_dim or rope keys.
constexpr char kLlama1[] = R"({
  "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
  "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
  "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 32,
  "num_hidden_layers": 32, "pad_token_id": 0, "rms_norm_eps": 1e-06, "torch_dtype": "float16",
  "vocab_size": 32000})";

std::string patched(const std::string& text, const std::string& patch) {
  nlohmann::json json = nlohmann::json::parse(text);
  // merge_patch removes members that the patch sets to null; to test null itself, "NULL" stands
  // for it.
  json.merge_patch(nlohmann::json::parse(patch));
  for (auto& member : json)
    if (member == "NULL") member = nullptr;
  return json.dump();
}

ModelConfig read_ok(const std::string& text) {
  Result<ModelConfig> config = read_config_json(text, kPath);
  REQUIRE_MESSAGE(config.ok(), config.status().message());
  return *config;
}

}  // namespace

TEST_CASE("config.json of LLaMA-3.1 and LLaMA-1") {
  const ModelConfig llama31 = read_ok(kLlama31);
  ModelConfig expected;
  expected.n_layers = 32;
  expected.n_embd = 4096;
  expected.n_heads = 32;
  expected.n_kv_heads = 8;
  expected.head_dim = 128;
  expected.n_ff = 14336;
  expected.n_vocab = 128256;
  expected.context_tokens = 131072;
  expected.rms_norm_eps = 1e-5f;
  expected.rope = {RopeType::kLlama3, 500000.0, 8.0, 1.0, 4.0, 8192};
  expected.bos_token_id = 128000;
  expected.eos_token_ids = {128001, 128008, 128009};
  CHECK(llama31 == expected);

  const ModelConfig llama1 = read_ok(kLlama1);
  CHECK(llama1.n_kv_heads == 32);
  CHECK(llama1.head_dim == 128);
  CHECK(llama1.rope == RopeConfig{});
  CHECK(llama1.rms_norm_eps == 1e-6f);
  CHECK(llama1.eos_token_ids == std::vector<int32_t>{2});
}

TEST_CASE("every spelling of the rotary embedding means the same") {
  struct Spelling {
    const char* patch;  // of kLlama1
    RopeConfig expected;
  };
  const RopeConfig linear = {RopeType::kLinear, 10000.0, 4.0};
  const RopeConfig theta = {RopeType::kDefault, 500000.0};
  const std::vector<Spelling> spellings = {
      {R"({"rope_scaling": {"type": "linear", "factor": 4}})", linear},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": 4.0}})", linear},
      {R"({"rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 4.0}})", linear},
      {R"({"rope_theta": 10000, "rope_parameters": {"rope_type": "linear", "factor": 4.0}})",
       linear},
      {R"({"rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0}})",
       linear},
      {R"({"rope_parameters": {"type": "linear", "factor": 4.0}, "rope_scaling": "NULL"})", linear},
      {R"({"rope_parameters": {"type": "linear", "factor": 4.0},
           "rope_scaling": {"type": "linear", "factor": 4.0}})",
       linear},
      {R"({"rope_theta": 500000})", theta},
      {R"({"rope_theta": 500000.0, "rope_scaling": {"type": "default"}})", theta},
      {R"({"rope_parameters": {"rope_theta": 500000.0}})", theta},
      {R"({"rope_theta": "NULL", "rope_scaling": "NULL", "rope_parameters": "NULL"})",
       RopeConfig{}},
      {R"({"rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 32,
           "low_freq_factor": 1, "high_freq_factor": 4,
           "original_max_position_embeddings": 8192}})",
       {RopeType::kLlama3, 500000.0, 32.0, 1.0, 4.0, 8192}},
  };
  for (const Spelling& spelling : spellings) {
    INFO(spelling.patch);
    CHECK(read_ok(patched(kLlama1, spelling.patch)).rope == spelling.expected);
  }
}

TEST_CASE("optional members and null") {
  CHECK(read_ok(patched(kLlama1, R"({"num_key_value_heads": "NULL"})")).n_kv_heads == 32);
  CHECK(read_ok(patched(kLlama1, R"({"head_dim": "NULL"})")).head_dim == 128);
  CHECK(read_ok(patched(kLlama1, R"({"head_dim": 64})")).head_dim == 64);
  CHECK(read_ok(patched(kLlama1, R"({"tie_word_embeddings": true})")).tied_embeddings);
  CHECK(read_ok(patched(kLlama1, R"({"attention_bias": true})")).attention_bias);
  CHECK(read_ok(patched(kLlama1, R"({"mlp_bias": true})")).mlp_bias);
  CHECK(read_ok(patched(kLlama1, R"({"bos_token_id": "NULL"})")).bos_token_id == -1);
  CHECK(read_ok(patched(kLlama1, R"({"eos_token_id": "NULL"})")).eos_token_ids.empty());
  CHECK(read_ok(patched(kLlama1, R"({"eos_token_id": [2, 7, 2]})")).eos_token_ids ==
        std::vector<int32_t>{2, 7});
  // Either of the two names of the architecture is enough.
  CHECK(read_ok(patched(kLlama1, R"({"architectures": null})")).n_layers == 32);
  CHECK(read_ok(patched(kLlama1, R"({"model_type": null})")).n_layers == 32);
}

TEST_CASE("config.json: what is not understood is refused by name") {
  constexpr StatusCode kCorrupt = StatusCode::kCorrupt;
  constexpr StatusCode kModel = StatusCode::kUnsupportedModel;
  constexpr StatusCode kLimit = StatusCode::kLimitExceeded;
  struct Refusal {
    const char* patch;  // of kLlama1
    StatusCode code;
    std::vector<std::string> parts;
  };
  const std::vector<Refusal> refusals = {
      {R"({"model_type": "mistral"})", kModel, {"model_type", "mistral", "llama"}},
      {R"({"model_type": 7})", kCorrupt, {"model_type", "a string", "number"}},
      {R"({"model_type": null, "architectures": null})", kCorrupt, {"model_type is missing"}},
      {R"({"architectures": ["LlamaForSequenceClassification"]})",
       kModel,
       {"architectures", "LlamaForSequenceClassification"}},
      {R"({"architectures": "LlamaForCausalLM"})", kCorrupt, {"architectures", "a list"}},
      {R"({"architectures": []})", kCorrupt, {"architectures"}},
      {R"({"hidden_act": "gelu"})", kModel, {"hidden_act", "gelu", "silu"}},
      {R"({"hidden_act": null})", kCorrupt, {"hidden_act is missing"}},
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})",
       kModel,
       {"quantization_config", "gptq"}},
      {R"({"quantization_config": {}})", kModel, {"quantization_config", "unknown"}},
      {R"({"quantization_config": 4})", kModel, {"quantization_config", "unknown"}},
      {R"({"hidden_size": null})", kCorrupt, {"hidden_size is missing"}},
      {R"({"intermediate_size": null})", kCorrupt, {"intermediate_size is missing"}},
      {R"({"num_hidden_layers": null})", kCorrupt, {"num_hidden_layers is missing"}},
      {R"({"num_attention_heads": null})", kCorrupt, {"num_attention_heads is missing"}},
      {R"({"vocab_size": null})", kCorrupt, {"vocab_size is missing"}},
      {R"({"max_position_embeddings": null})", kCorrupt, {"max_position_embeddings is missing"}},
      {R"({"rms_norm_eps": null})", kCorrupt, {"rms_norm_eps is missing"}},
      {R"({"hidden_size": "4096"})", kCorrupt, {"hidden_size", "an integer", "string"}},
      {R"({"hidden_size": 4096.0})", kCorrupt, {"hidden_size", "an integer"}},
      {R"({"hidden_size": true})", kCorrupt, {"hidden_size", "an integer", "boolean"}},
      {R"({"rms_norm_eps": "1e-5"})", kCorrupt, {"rms_norm_eps", "a number"}},
      {R"({"tie_word_embeddings": 1})", kCorrupt, {"tie_word_embeddings", "true or false"}},
      {R"({"hidden_size": 262208, "num_attention_heads": 2})", kLimit, {"hidden_size", "262144"}},
      {R"({"hidden_size": 4294967296})", kLimit, {"hidden_size", "4294967296"}},
      {R"({"hidden_size": 18446744073709551615})", kLimit, {"hidden_size", "18446744073709551615"}},
      {R"({"hidden_size": -9223372036854775808})", kLimit, {"hidden_size", "-922337203685477580"}},
      {R"({"num_hidden_layers": 0})", kCorrupt, {"num_hidden_layers", "is 0", "1 to 1024"}},
      {R"({"num_attention_heads": 0})", kCorrupt, {"num_attention_heads", "is 0"}},
      {R"({"num_attention_heads": -1})", kCorrupt, {"num_attention_heads", "is -1"}},
      {R"({"num_attention_heads": 33})", kCorrupt, {"head_dim is missing", "4096", "33"}},
      {R"({"num_key_value_heads": 5})", kCorrupt, {"num_key_value_heads", "32", "5"}},
      {R"({"num_key_value_heads": 0})", kCorrupt, {"num_key_value_heads", "is 0"}},
      {R"({"head_dim": 0})", kCorrupt, {"head_dim", "is 0"}},
      {R"({"rms_norm_eps": 0})", kCorrupt, {"rms_norm_eps"}},
      {R"({"rms_norm_eps": 1e300})", kLimit, {"rms_norm_eps"}},
      {R"({"bos_token_id": 32000})", kLimit, {"bos_token_id", "32000"}},
      {R"({"bos_token_id": [1]})", kCorrupt, {"bos_token_id", "an integer"}},
      {R"({"eos_token_id": [1, "2"]})", kCorrupt, {"eos_token_id", "an integer"}},
      {R"({"eos_token_id": -1})", kCorrupt, {"eos_token_id", "is -1"}},
      {R"({"eos_token_id": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]})",
       kLimit,
       {"eos_token_id", "17"}},
      {R"({"rope_scaling": {"type": "dynamic", "factor": 2.0}})", kModel, {"rope", "dynamic"}},
      {R"({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}})",
       kModel,
       {"rope_parameters", "yarn"}},
      {R"({"rope_scaling": [2.0]})", kCorrupt, {"rope_scaling", "an object", "array"}},
      {R"({"rope_scaling": {"factor": 2.0}})", kCorrupt, {"rope_type is missing"}},
      {R"({"rope_scaling": {"type": "linear"}})", kCorrupt, {"rope_scaling", "factor is missing"}},
      {R"({"rope_scaling": {"type": "linear", "factor": "2"}})", kCorrupt, {"factor", "a number"}},
      {R"({"rope_scaling": {"type": 3, "factor": 2}})", kCorrupt, {"type", "a string"}},
      {R"({"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2.0}})",
       kCorrupt,
       {"contradicts", "linear", "default"}},
      {R"({"rope_scaling": {"type": "linear", "factor": 2.0},
           "rope_parameters": {"type": "linear", "factor": 4.0}})",
       kCorrupt,
       {"rope_parameters and rope_scaling differ"}},
      {R"({"rope_theta": 20000.0, "rope_parameters": {"rope_theta": 10000.0}})",
       kCorrupt,
       {"rope_theta", "contradicts"}},
      {R"({"rope_scaling": {"type": "llama3", "factor": 8.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192}})",
       kCorrupt,
       {"low_freq_factor is missing"}},
      {R"({"rope_scaling": {"type": "llama3", "factor": 8.0, "high_freq_factor": 1.0,
           "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}})",
       kCorrupt,
       {"high_freq_factor"}},
      {R"({"rope_theta": 0})", kCorrupt, {"rope_theta"}},
      {R"({"partial_rotary_factor": 0.5})", kModel, {"partial_rotary_factor", "0.5"}},
      {R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}})",
       kModel,
       {"partial_rotary_factor", "0.25"}},
  };
  for (const Refusal& refusal : refusals) {
    INFO(refusal.patch);
    const Result<ModelConfig> config = read_config_json(patched(kLlama1, refusal.patch), kPath);
    REQUIRE_FALSE(config.ok());
    expect_error(config.status(), refusal.code, refusal.parts);
    expect_error(config.status(), refusal.code, {kPath});
  }
  for (const char* text : {"", "[]", "7", "null", "{", "{\"model_type\": \"llama\"", "\xff"}) {
    INFO(text);
    expect_error(read_config_json(text, kPath).status(), kCorrupt, {kPath});
  }
}

TEST_CASE("messages do not repeat control characters or long names from the file") {
  const std::string name = "a\nb\x1b[31m" + std::string(5000, 'x');
  const Result<ModelConfig> config =
      read_config_json(patched(kLlama1, nlohmann::json{{"model_type", name}}.dump()), kPath);
  REQUIRE_FALSE(config.ok());
  const std::string message = config.status().message();
  CHECK(message.find("a?b?[31m") != std::string::npos);
  CHECK(message.size() < 300);
}

TEST_CASE("generation_config.json adds end-of-sequence ids") {
  ModelConfig config = read_ok(kLlama1);
  CHECK(merge_generation_config(R"({"eos_token_id": [7, 2, 9], "top_p": 0.9})", "g", &config).ok());
  CHECK(config.eos_token_ids == std::vector<int32_t>{2, 7, 9});
  CHECK(merge_generation_config(R"({"eos_token_id": null})", "g", &config).ok());
  CHECK(merge_generation_config(R"({"eos_token_id": 11})", "g", &config).ok());
  CHECK(config.eos_token_ids == std::vector<int32_t>{2, 7, 9, 11});
  expect_error(merge_generation_config(R"({"eos_token_id": 32000})", "g.json", &config),
               StatusCode::kLimitExceeded, {"g.json", "eos_token_id", "32000"});
  config = read_ok(kLlama1);
  expect_error(merge_generation_config("[]", "g.json", &config), StatusCode::kCorrupt,
               {"g.json", "object"});
}
