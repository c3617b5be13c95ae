#include "quantize/quantized_source.h"

#include <utility>

#include "base/checked.h"

namespace flexq {

QuantizedSource::QuantizedSource(WeightSource& source, std::vector<RowConversion> conversions)
    : source_(source), conversions_(std::move(conversions)) {
  tensors_.reserve(conversions_.size());
  for (const RowConversion& conversion : conversions_)
    tensors_.push_back(conversion.to);
}

Status QuantizedSource::read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer,
                                   WeightPiece* out) {
  const RowConversion& conversion = conversions_[static_cast<size_t>(tensor)];
  WeightPiece dense;
  FLEXQ_RETURN_IF_ERROR(source_.read_piece(tensor, piece, buffer, &dense));
  if (conversion.from == conversion.to.format) {
    *out = dense;
    return {};
  }
  // Behind each other in the room for compressed bytes, which unquantized sources leave alone:
  // values, scales, one row in fp32.
  const int64_t n_cols = conversion.to.spec.cols;
  const int64_t row_bytes = n_cols * element_bytes(conversion.to.format);
  const int64_t n_scales = scales_per_row(conversion.to.format, n_cols);
  const int64_t scales_at = align_up(dense.n_rows * row_bytes, kHostAlignment);
  const int64_t scratch_at =
      align_up(scales_at + dense.n_rows * n_scales * int64_t{sizeof(uint16_t)}, kHostAlignment);
  const int64_t bytes = scratch_at + n_cols * int64_t{sizeof(float)};
  if (buffer.stored.size() < bytes) {
    FLEXQ_ASSIGN_OR_RETURN(buffer.stored, HostBuffer::allocate(bytes, "quantized piece"));
  }
  uint8_t* const values = buffer.stored.data();
  auto* const scales = reinterpret_cast<uint16_t*>(values + scales_at);
  auto* const scratch = reinterpret_cast<float*>(values + scratch_at);
  const int64_t source_row_bytes = n_cols * element_bytes(conversion.from);
  for (int64_t row = 0; row < dense.n_rows; ++row)
    convert_row(conversion, dense.values + row * source_row_bytes, scratch,
                values + row * row_bytes, scales + row * n_scales);
  *out = {dense.row_begin, dense.n_rows, values, n_scales > 0 ? scales : nullptr};
  return {};
}

}  // namespace flexq
