// Rotary position embeddings: the angles of every position, with LLaMA's scaling rules.
#pragma once

#include <cstdint>
#include <memory>
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
  int32_t n_angles() const { return static_cast<int32_t>(inverse_frequencies_.size()); }

 private:
  std::vector<float> inverse_frequencies_;
};

// The angles of all positions of a context, each computed when it is first asked for: a pass of
// 1,024 tokens would spend 0.8 ms of a Zen 5 core on them every time (head_dim 128). One thread at
// a time. Takes 4 * head_dim bytes of address space a position, and memory for those that were
// asked for.
class RopeRows {
 public:
  RopeRows() = default;
  // The table must outlive this.
  RopeRows(const RopeTable& table, int32_t n_positions);

  // Copies those of a position, in [0, n_positions), as RopeTable::angles() does.
  void copy(int32_t position, float* cos, float* sin);

 private:
  const RopeTable* table_ = nullptr;
  std::vector<bool> known_;        // (n_positions)
  std::unique_ptr<float[]> rows_;  // (n_positions, 2, n_angles)
};

}  // namespace flexq
