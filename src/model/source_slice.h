// A part of a model's weights as a source of its own, for work that goes through a model layer by
// layer with memory for one layer.
#pragma once

#include <vector>

#include "model/weight_source.h"

namespace flexq {

// Borrows the whole source. As safe from several threads as that.
class SourceSlice : public WeightSource {
 public:
  // One layer as a model of one layer: its tensors say layer 0.
  static SourceSlice of_layer(WeightSource& whole, int32_t layer);
  // What is outside the layers as a model without layers: embedding, final norm, lm_head.
  static SourceSlice of_ends(WeightSource& whole);

  const ModelConfig& config() const override { return config_; }
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  int64_t n_pieces(int64_t tensor) const override { return whole_.n_pieces(index_of(tensor)); }
  Status read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer, WeightPiece* out) override {
    return whole_.read_piece(index_of(tensor), piece, buffer, out);
  }

 private:
  explicit SourceSlice(WeightSource& whole) : whole_(whole), config_(whole.config()) {}
  // Takes the tensors of `layer`; -1: those outside the layers.
  void take(int32_t layer);
  int64_t index_of(int64_t tensor) const { return indices_[static_cast<size_t>(tensor)]; }

  WeightSource& whole_;
  ModelConfig config_;
  std::vector<StoredTensor> tensors_;
  std::vector<int64_t> indices_;  // parallel to tensors_: where they are in the whole
};

}  // namespace flexq
