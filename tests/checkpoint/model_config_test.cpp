#include "model/model_config.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "expect_error.h"
#include "model/weight_source.h"
#include "support/synthetic_checkpoint.h"

using namespace flexq;
using namespace flexq::test;

TEST_CASE("validate_config accepts each limit and refuses the next value by name") {
  struct Limit {
    const char* field;
    std::function<void(ModelConfig&)> at_limit;  // empty: there is no valid neighbour to show
    std::function<void(ModelConfig&)> beyond;
    StatusCode code;
  };
  const auto wide = [](ModelConfig& c) { c.n_heads = c.n_kv_heads = 1024, c.head_dim = 256; };
  const auto llama3 = [](ModelConfig& c) { c.rope.type = RopeType::kLlama3, c.rope.factor = 8.0; };
  const std::vector<Limit> limits = {
      {"n_layers", [](auto& c) { c.n_layers = 1024; }, [](auto& c) { c.n_layers = 1025; },
       StatusCode::kLimitExceeded},
      {"num_hidden_layers", [](auto& c) { c.n_layers = 1; }, [](auto& c) { c.n_layers = 0; },
       StatusCode::kCorrupt},
      {"n_embd", [](auto& c) { c.n_embd = 262144; }, [](auto& c) { c.n_embd = 262145; },
       StatusCode::kLimitExceeded},
      {"hidden_size", [](auto& c) { c.n_embd = 1; }, [](auto& c) { c.n_embd = -64; },
       StatusCode::kCorrupt},
      {"n_ff", [](auto& c) { c.n_ff = 262144; }, [](auto& c) { c.n_ff = 262145; },
       StatusCode::kLimitExceeded},
      {"n_vocab", [](auto& c) { c.n_vocab = 1048576; }, [](auto& c) { c.n_vocab = 1048577; },
       StatusCode::kLimitExceeded},
      {"context_tokens", [](auto& c) { c.context_tokens = 4194304; },
       [](auto& c) { c.context_tokens = 4194305; }, StatusCode::kLimitExceeded},
      {"n_heads", [](auto& c) { c.n_heads = 1024; }, [](auto& c) { c.n_heads = 1025; },
       StatusCode::kLimitExceeded},
      {"n_heads", [](auto& c) { c.n_kv_heads = 4; }, [](auto& c) { c.n_kv_heads = 3; },
       StatusCode::kCorrupt},
      {"head_dim", [](auto& c) { c.head_dim = 1024; }, [](auto& c) { c.head_dim = 1026; },
       StatusCode::kLimitExceeded},
      {"head_dim", [](auto& c) { c.head_dim = 2; }, [](auto& c) { c.head_dim = 15; },
       StatusCode::kCorrupt},
      {"n_heads * head_dim", wide, [&](auto& c) { wide(c), c.head_dim = 258; },
       StatusCode::kLimitExceeded},
      {"rms_norm_eps", [](auto& c) { c.rms_norm_eps = 1.0f; },
       [](auto& c) { c.rms_norm_eps = 0.0f; }, StatusCode::kCorrupt},
      {"rms_norm_eps", nullptr, [](auto& c) { c.rms_norm_eps = std::nanf(""); },
       StatusCode::kCorrupt},
      {"rope_theta", [](auto& c) { c.rope.theta = 1e12; }, [](auto& c) { c.rope.theta = HUGE_VAL; },
       StatusCode::kLimitExceeded},
      {"rope factor", llama3, [&](auto& c) { llama3(c), c.rope.factor = 0.5; },
       StatusCode::kCorrupt},
      {"low_freq_factor", nullptr, [&](auto& c) { llama3(c), c.rope.low_freq_factor = 0.0; },
       StatusCode::kCorrupt},
      {"high_freq_factor - low_freq_factor", nullptr,
       [&](auto& c) { llama3(c), c.rope.high_freq_factor = c.rope.low_freq_factor; },
       StatusCode::kCorrupt},
      {"original_max_position_embeddings", nullptr,
       [&](auto& c) { llama3(c), c.rope.original_context_tokens = 0; }, StatusCode::kCorrupt},
      {"bos_token_id", [](auto& c) { c.bos_token_id = 319; }, [](auto& c) { c.bos_token_id = 320; },
       StatusCode::kLimitExceeded},
      {"bos_token_id", [](auto& c) { c.bos_token_id = -1; }, [](auto& c) { c.bos_token_id = -2; },
       StatusCode::kCorrupt},
      {"eos_token_id",
       [](auto& c) {
         c.eos_token_ids = {0, 319};
       },
       [](auto& c) {
         c.eos_token_ids = {0, 320};
       },
       StatusCode::kLimitExceeded},
      {"eos_token_id", [](auto& c) { c.eos_token_ids.assign(16, 2); },
       [](auto& c) { c.eos_token_ids.assign(17, 2); }, StatusCode::kLimitExceeded},
  };
  CHECK(validate_config(small_model_config(), "x").ok());
  for (const Limit& limit : limits) {
    INFO(limit.field);
    if (limit.at_limit) {
      ModelConfig config = small_model_config();
      limit.at_limit(config);
      CHECK_MESSAGE(validate_config(config, "x").ok(), validate_config(config, "x").message());
    }
    ModelConfig config = small_model_config();
    limit.beyond(config);
    expect_error(validate_config(config, "some/config.json"), limit.code,
                 {"some/config.json: ", limit.field});
  }
}

TEST_CASE("expected_tensors lists names and shapes in the canonical order") {
  ModelConfig config = small_model_config();
  config.n_layers = 1;
  config.head_dim = 24;  // n_heads * head_dim = 96, unlike n_embd
  config.attention_bias = true;
  const std::vector<TensorSpec> tensors = expected_tensors(config);
  struct Expected {
    const char* name;
    TensorRole role;
    int32_t layer;
    int64_t rows, cols;
  };
  const std::vector<Expected> expected = {
      {"model.embed_tokens.weight", TensorRole::kEmbedding, -1, 320, 64},
      {"model.layers.0.input_layernorm.weight", TensorRole::kNorm, 0, 1, 64},
      {"model.layers.0.self_attn.q_proj.weight", TensorRole::kLinear, 0, 96, 64},
      {"model.layers.0.self_attn.q_proj.bias", TensorRole::kBias, 0, 1, 96},
      {"model.layers.0.self_attn.k_proj.weight", TensorRole::kLinear, 0, 48, 64},
      {"model.layers.0.self_attn.k_proj.bias", TensorRole::kBias, 0, 1, 48},
      {"model.layers.0.self_attn.v_proj.weight", TensorRole::kLinear, 0, 48, 64},
      {"model.layers.0.self_attn.v_proj.bias", TensorRole::kBias, 0, 1, 48},
      {"model.layers.0.self_attn.o_proj.weight", TensorRole::kLinear, 0, 64, 96},
      {"model.layers.0.self_attn.o_proj.bias", TensorRole::kBias, 0, 1, 64},
      {"model.layers.0.post_attention_layernorm.weight", TensorRole::kNorm, 0, 1, 64},
      {"model.layers.0.mlp.gate_proj.weight", TensorRole::kLinear, 0, 160, 64},
      {"model.layers.0.mlp.up_proj.weight", TensorRole::kLinear, 0, 160, 64},
      {"model.layers.0.mlp.down_proj.weight", TensorRole::kLinear, 0, 64, 160},
      {"model.norm.weight", TensorRole::kNorm, -1, 1, 64},
      {"lm_head.weight", TensorRole::kLmHead, -1, 320, 64},
  };
  REQUIRE(tensors.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO(expected[i].name);
    CHECK(tensors[i].name == expected[i].name);
    CHECK(tensors[i].role == expected[i].role);
    CHECK(tensors[i].layer == expected[i].layer);
    CHECK(tensors[i].rows == expected[i].rows);
    CHECK(tensors[i].cols == expected[i].cols);
  }
  CHECK(tensors[9].linear_kind == LinearKind::kO);
  CHECK(tensors[13].linear_kind == LinearKind::kDown);

  config.mlp_bias = true;
  config.tied_embeddings = true;
  const std::vector<TensorSpec> tied = expected_tensors(config);
  CHECK(tied.size() == expected.size() + 3 - 1);
  CHECK(tied[12].name == "model.layers.0.mlp.gate_proj.bias");
  CHECK(tied[12].cols == 160);
  CHECK(tied.back().name == "model.norm.weight");
}

TEST_CASE("rows_per_piece: multiples of 16 rows near 2 MiB") {
  CHECK(rows_per_piece(32000, 8192) == 256);
  CHECK(rows_per_piece(32000, 2 * 4097) == 240);  // 255 fit
  CHECK(rows_per_piece(32000, 1 << 20) == 16);    // at least 16
  CHECK(rows_per_piece(512, 256) == 512);         // the whole tensor
  CHECK(rows_per_piece(500, 256) == 512);         // its last piece ends earlier
  CHECK(rows_per_piece(1, 256) == 16);
  CHECK(16 * int64_t{kMaxEmbd} * 4 == kMaxPieceBytes);
}
