// An unquantized source as it would be after quantizing, piece by piece while it is read: what a
// bundle will hold, before it is written.
#pragma once

#include <vector>

#include "model/weight_source.h"
#include "quantize/row_converter.h"

namespace flexq {

class QuantizedSource : public WeightSource {
 public:
  // Borrows the source; conversions: one per tensor of it. As safe from several threads as that.
  QuantizedSource(WeightSource& source, std::vector<RowConversion> conversions);

  const ModelConfig& config() const override { return source_.config(); }
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  int64_t n_pieces(int64_t tensor) const override { return source_.n_pieces(tensor); }
  Status read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer, WeightPiece* out) override;

 private:
  WeightSource& source_;
  std::vector<RowConversion> conversions_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace flexq
