// The architecture of a LLaMA model: what config.json says, in one vocabulary, and the list of
// tensors that follows from it. Checkpoint reader, quantizer, bundle and plan all use this list.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace flexq {

// Limits of everything FlexQ loads, whatever the source (see schema/FORMAT.md).
inline constexpr int32_t kMaxLayers = 1024;
inline constexpr int32_t kMaxHeads = 1024;
inline constexpr int32_t kMaxHeadDim = 1024;
inline constexpr int32_t kMaxEmbd = 1 << 18;
inline constexpr int32_t kMaxFf = 1 << 18;
inline constexpr int32_t kMaxVocab = 1 << 20;
inline constexpr int32_t kMaxContext = 1 << 22;
inline constexpr int32_t kMaxNameBytes = 256;
inline constexpr int32_t kMaxEosTokens = 16;

enum class RopeType : uint8_t { kDefault = 0, kLinear = 1, kLlama3 = 2 };

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                     // linear, llama3
  double low_freq_factor = 1.0;            // llama3
  double high_freq_factor = 4.0;           // llama3
  int32_t original_context_tokens = 8192;  // llama3
  bool operator==(const RopeConfig&) const = default;
};

struct ModelConfig {
  int32_t n_layers = 0;
  int32_t n_embd = 0;
  int32_t n_heads = 0;
  int32_t n_kv_heads = 0;  // divides n_heads
  int32_t head_dim = 0;    // even; n_heads * head_dim need not equal n_embd
  int32_t n_ff = 0;
  int32_t n_vocab = 0;
  int32_t context_tokens = 0;  // max_position_embeddings
  float rms_norm_eps = 1e-5f;
  RopeConfig rope;
  bool tied_embeddings = false;
  bool attention_bias = false;  // on q, k, v and o
  bool mlp_bias = false;        // on gate, up and down
  int32_t bos_token_id = -1;    // -1: none
  std::vector<int32_t> eos_token_ids;

  bool operator==(const ModelConfig&) const = default;
};

// Range and consistency checks; `source` (a file name) leads the message. kLimitExceeded or
// kCorrupt with the field, what was expected and what was found.
Status validate_config(const ModelConfig& config, const std::string& source);

enum class TensorRole : uint8_t {
  kEmbedding = 0,  // model.embed_tokens.weight, (n_vocab, n_embd)
  kNorm = 1,       // RMSNorm weights, (1, n_embd), a vector in the checkpoint
  kLinear = 2,     // what FlexQ quantizes: q, k, v, o, gate, up, down; (out, in)
  kBias = 3,       // (1, out), a vector in the checkpoint
  kLmHead = 4,     // lm_head.weight, (n_vocab, n_embd); absent when embeddings are tied
};

// Position of a linear within its layer, in the order of expected_tensors().
enum class LinearKind : uint8_t { kQ = 0, kK, kV, kO, kGate, kUp, kDown };

struct TensorSpec {
  std::string name;  // as Hugging Face checkpoints call it
  TensorRole role = TensorRole::kNorm;
  // Of kLinear and kBias; of a layer's norm the first linear that reads what it makes.
  LinearKind linear_kind = LinearKind::kQ;
  int32_t layer = -1;  // -1 outside the layers
  int64_t rows = 0;    // 1 for vectors
  int64_t cols = 0;
  bool is_vector() const { return role == TensorRole::kNorm || role == TensorRole::kBias; }
};

// Every tensor of a validated config, in the canonical order: embedding; per layer
// input_layernorm, q, k, v, o, post_attention_layernorm, gate, up, down (each linear followed by
// its bias where there is one); final norm; lm_head unless tied. Bundles store tensors in this
// order.
std::vector<TensorSpec> expected_tensors(const ModelConfig& config);

}  // namespace flexq
