// Rotary position embeddings: the angles of every position, with LLaMA's scaling rules.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_config.h"

namespace flexq {

// Inverse frequencies of a model (head_dim / 2), scaled once, and cos and sin of single positions.
// Computed in fp32 as Hugging Face transformers does, so that long contexts see the same angles.
class RopeTable {
 public:
  RopeTable() = default;
  explicit RopeTable(const ModelConfig& config);

  // cos and sin of position * inverse frequency, (head_dim / 2) each.
  void angles(int32_t position, float* cos, float* sin) const;

 private:
  std::vector<float> inverse_frequencies_;
};

}  // namespace flexq
