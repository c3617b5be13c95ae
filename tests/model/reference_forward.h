// LLaMA in double precision, one token at a time and as slowly as it likes, written from the papers
// and the published semantics of Hugging Face's LlamaForCausalLM. Shares nothing with the library
// but the struct of dimensions: it parses the checkpoint's bytes itself.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/model_config.h"
#include "support/synthetic_checkpoint.h"

namespace flexq::test {

using Vector = std::vector<double>;

class ReferenceModel {
 public:
  // `files`: a checkpoint with one model.safetensors of F32, F16 or BF16 tensors.
  ReferenceModel(const SyntheticFiles& files, const ModelConfig& config);

  struct Row {
    Vector hidden;  // (n_embd), after the last norm
    Vector logits;  // (n_vocab)
  };
  // One row per token.
  std::vector<Row> forward(std::span<const int32_t> tokens) const;

 private:
  // Keys and values of one layer, by position.
  struct Cache {
    std::vector<Vector> keys;    // (n_kv_heads * head_dim)
    std::vector<Vector> values;  // (n_kv_heads * head_dim)
  };
  Vector norm(const std::string& name, const Vector& x) const;
  Vector linear(const std::string& name, const Vector& x) const;
  void rotate(Vector& heads, int position) const;
  Vector attend(const Vector& queries, const Cache& cache) const;

  const ModelConfig config_;
  std::map<std::string, Vector> tensors_;
  Vector inverse_frequencies_;  // (head_dim / 2)
};

// 1 / theta^(2 i / head_dim) with the scaling of modeling_rope_utils.py, (head_dim / 2).
Vector reference_frequencies(const ModelConfig& config);

}  // namespace flexq::test
