#include "model/model_config.h"

#include <cmath>
#include <utility>

namespace flexq {
namespace {

constexpr double kMaxRopeTheta = 1e12;
constexpr double kMaxRopeFactor = 1e6;

// Collects the first failed check; `source` leads every message.
class ConfigChecks {
 public:
  explicit ConfigChecks(const std::string& source) : source_(source) {}

  void integer(const char* field, int64_t value, int64_t low, int64_t high) {
    if (!status_.ok() || (value >= low && value <= high)) return;
    status_ = Status::error(value > high ? StatusCode::kLimitExceeded : StatusCode::kCorrupt,
                            "%s: %s is %lld, expected %lld to %lld", source_.c_str(), field,
                            static_cast<long long>(value), static_cast<long long>(low),
                            static_cast<long long>(high));
  }

  // Both bounds are included; NaN fails.
  void real(const char* field, double value, double low, double high) {
    if (!status_.ok() || (value >= low && value <= high)) return;
    status_ =
        Status::error(value > high ? StatusCode::kLimitExceeded : StatusCode::kCorrupt,
                      "%s: %s is %g, expected %g to %g", source_.c_str(), field, value, low, high);
  }

  // `value` must be a multiple of `divisor`, which is at least 1.
  void multiple(const char* field, int64_t value, const char* divisor_field, int64_t divisor) {
    if (!status_.ok() || value % divisor == 0) return;
    status_ = Status::error(StatusCode::kCorrupt, "%s: %s is %lld, expected a multiple of %s%lld",
                            source_.c_str(), field, static_cast<long long>(value), divisor_field,
                            static_cast<long long>(divisor));
  }

  bool ok() const { return status_.ok(); }
  Status take() { return std::move(status_); }

 private:
  const std::string& source_;
  Status status_;
};

void check_rope(const RopeConfig& rope, ConfigChecks& checks) {
  checks.integer("rope type", static_cast<int64_t>(rope.type), 0,
                 static_cast<int64_t>(RopeType::kLlama3));
  checks.real("rope_theta", rope.theta, 1.0, kMaxRopeTheta);
  if (rope.type == RopeType::kDefault) return;
  checks.real("rope factor", rope.factor, 1.0, kMaxRopeFactor);
  if (rope.type == RopeType::kLinear) return;
  checks.real("rope low_freq_factor", rope.low_freq_factor, 1.0 / kMaxRopeFactor, kMaxRopeFactor);
  checks.real("rope high_freq_factor", rope.high_freq_factor, 1.0 / kMaxRopeFactor, kMaxRopeFactor);
  // The interpolation between the two divides by their difference.
  checks.real("rope high_freq_factor - low_freq_factor",
              rope.high_freq_factor - rope.low_freq_factor, 1.0 / kMaxRopeFactor, kMaxRopeFactor);
  checks.integer("rope original_max_position_embeddings", rope.original_context_tokens, 1,
                 kMaxContext);
}

class TensorList {
 public:
  explicit TensorList(const ModelConfig& config) : config_(config) {}

  void matrix(std::string name, TensorRole role, int64_t rows, int64_t cols) {
    tensors_.push_back({std::move(name), role, LinearKind::kQ, -1, rows, cols});
  }
  void norm(std::string name, LinearKind reader, int32_t layer) {
    tensors_.push_back({std::move(name), TensorRole::kNorm, reader, layer, 1, config_.n_embd});
  }
  void linear(const std::string& name, LinearKind kind, int32_t layer, int64_t rows, int64_t cols,
              bool has_bias) {
    tensors_.push_back({name + ".weight", TensorRole::kLinear, kind, layer, rows, cols});
    if (has_bias) tensors_.push_back({name + ".bias", TensorRole::kBias, kind, layer, 1, rows});
  }
  std::vector<TensorSpec> take() { return std::move(tensors_); }

 private:
  const ModelConfig& config_;
  std::vector<TensorSpec> tensors_;
};

}  // namespace

Status validate_config(const ModelConfig& config, const std::string& source) {
  ConfigChecks checks(source);
  checks.integer("n_layers (num_hidden_layers)", config.n_layers, 1, kMaxLayers);
  checks.integer("n_embd (hidden_size)", config.n_embd, 1, kMaxEmbd);
  checks.integer("n_heads (num_attention_heads)", config.n_heads, 1, kMaxHeads);
  checks.integer("n_kv_heads (num_key_value_heads)", config.n_kv_heads, 1, kMaxHeads);
  checks.integer("head_dim", config.head_dim, 1, kMaxHeadDim);
  checks.integer("n_ff (intermediate_size)", config.n_ff, 1, kMaxFf);
  checks.integer("n_vocab (vocab_size)", config.n_vocab, 1, kMaxVocab);
  checks.integer("context_tokens (max_position_embeddings)", config.context_tokens, 1, kMaxContext);
  // Below the smallest normal float the epsilon would be flushed or lost.
  checks.real("rms_norm_eps", config.rms_norm_eps, 1e-37, 1.0);
  if (!checks.ok()) return checks.take();

  checks.multiple("n_heads (num_attention_heads)", config.n_heads,
                  "n_kv_heads (num_key_value_heads) ", config.n_kv_heads);
  checks.multiple("head_dim", config.head_dim, "", 2);  // the rotary embedding turns pairs
  // The width of o_proj's rows, which kMaxPieceBytes relies on.
  checks.integer("n_heads * head_dim", int64_t{config.n_heads} * config.head_dim, 1, kMaxEmbd);
  check_rope(config.rope, checks);
  checks.integer("bos_token_id", config.bos_token_id, -1, config.n_vocab - 1);
  checks.integer("number of eos_token_id", static_cast<int64_t>(config.eos_token_ids.size()), 0,
                 kMaxEosTokens);
  for (const int32_t id : config.eos_token_ids)
    checks.integer("eos_token_id", id, 0, config.n_vocab - 1);
  return checks.take();
}

std::vector<TensorSpec> expected_tensors(const ModelConfig& config) {
  const int64_t n_embd = config.n_embd;
  const int64_t n_ff = config.n_ff;
  const int64_t q_size = int64_t{config.n_heads} * config.head_dim;
  const int64_t kv_size = int64_t{config.n_kv_heads} * config.head_dim;
  const bool attention_bias = config.attention_bias;
  const bool mlp_bias = config.mlp_bias;

  TensorList list(config);
  list.matrix("model.embed_tokens.weight", TensorRole::kEmbedding, config.n_vocab, n_embd);
  for (int32_t i = 0; i < config.n_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const std::string attention = layer + "self_attn.";
    const std::string mlp = layer + "mlp.";
    list.norm(layer + "input_layernorm.weight", LinearKind::kQ, i);
    list.linear(attention + "q_proj", LinearKind::kQ, i, q_size, n_embd, attention_bias);
    list.linear(attention + "k_proj", LinearKind::kK, i, kv_size, n_embd, attention_bias);
    list.linear(attention + "v_proj", LinearKind::kV, i, kv_size, n_embd, attention_bias);
    list.linear(attention + "o_proj", LinearKind::kO, i, n_embd, q_size, attention_bias);
    list.norm(layer + "post_attention_layernorm.weight", LinearKind::kGate, i);
    list.linear(mlp + "gate_proj", LinearKind::kGate, i, n_ff, n_embd, mlp_bias);
    list.linear(mlp + "up_proj", LinearKind::kUp, i, n_ff, n_embd, mlp_bias);
    list.linear(mlp + "down_proj", LinearKind::kDown, i, n_embd, n_ff, mlp_bias);
  }
  list.norm("model.norm.weight", LinearKind::kQ, -1);
  if (!config.tied_embeddings)
    list.matrix("lm_head.weight", TensorRole::kLmHead, config.n_vocab, n_embd);
  return list.take();
}

}  // namespace flexq
