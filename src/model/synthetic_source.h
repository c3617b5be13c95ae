// Random weights of any shape, made piece by piece: to measure speed and memory of a model whose
// weights are not there. The same config and seed give the same weights for any number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "model/weight_source.h"

namespace flexq {

// Matrices are roughly normal with standard deviation 1 / sqrt(cols), which keeps activations in
// range through any number of layers; norms are one, biases zero. Immutable.
class SyntheticSource : public WeightSource {
 public:
  // `tensors` says in which formats, in the order of expected_tensors(config); the scale
  // multipliers of quantized ones are set here.
  SyntheticSource(const ModelConfig& config, std::vector<StoredTensor> tensors, uint64_t seed);

  const ModelConfig& config() const override { return config_; }
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  int64_t n_pieces(int64_t tensor) const override;
  Status read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer, WeightPiece* out) override;
  // Of config, formats and seed, from which the weights follow.
  std::optional<Sha256Digest> identity() const override;

 private:
  ModelConfig config_;
  std::vector<StoredTensor> tensors_;
  uint64_t seed_;
};

// Every tensor of the config in fp16, vectors in fp32: an unquantized synthetic checkpoint.
std::vector<StoredTensor> unquantized_tensors(const ModelConfig& config);

}  // namespace flexq
