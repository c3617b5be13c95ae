// An unquantized source whose channels are equalized (channel_equalization.h): the same function.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "device/device.h"
#include "model/weight_source.h"

namespace flexq {

// By InputPoint: the exponent of every channel that the linears of a layer read there; empty: all
// are 0. Channels are divided by 2^e where they are made (a norm; v_proj; up_proj) and multiplied
// by it where they are read.
using LayerEqualization = std::array<std::vector<int8_t>, kInputPoints>;
using Equalization = std::vector<LayerEqualization>;  // (n_layers)

// Tensors of a layer come in fp32, which holds every product but of the very smallest and largest
// floats exactly; others as they are.
class EqualizedSource : public WeightSource {
 public:
  // Borrows the source. As safe from several threads as that.
  EqualizedSource(WeightSource& source, Equalization equalization);

  const ModelConfig& config() const override { return source_.config(); }
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  int64_t n_pieces(int64_t tensor) const override { return source_.n_pieces(tensor); }
  Status read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer, WeightPiece* out) override;

  const Equalization& equalization() const { return equalization_; }

 private:
  // (cols) and (rows) of a tensor; null: all 0.
  struct Exponents {
    const std::vector<int8_t>* columns = nullptr;
    int32_t column_sign = 1;
    const std::vector<int8_t>* rows = nullptr;  // these divide
  };

  WeightSource& source_;
  Equalization equalization_;
  std::vector<StoredTensor> tensors_;
  std::vector<Exponents> exponents_;  // parallel to tensors_
};

}  // namespace flexq
