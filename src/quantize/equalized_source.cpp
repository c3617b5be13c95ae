#include "quantize/equalized_source.h"

#include <array>
#include <cmath>
#include <utility>

#include "quantize/channel_equalization.h"
#include "quantize/dense_values.h"
#include "quantize/input_observation.h"

namespace flexq {
namespace {

int32_t exponent_at(const std::vector<int8_t>* exponents, int64_t index) {
  return exponents == nullptr ? 0 : (*exponents)[static_cast<size_t>(index)];
}

// Powers of two for what a row and a column ask of a weight together.
constexpr int32_t kMostExponent = 2 * kMostEqualization;

std::array<float, 2 * kMostExponent + 1> make_powers() {
  std::array<float, 2 * kMostExponent + 1> powers;
  for (int32_t exponent = -kMostExponent; exponent <= kMostExponent; ++exponent)
    powers[static_cast<size_t>(exponent + kMostExponent)] = std::ldexp(1.0f, exponent);
  return powers;
}

}  // namespace

EqualizedSource::EqualizedSource(WeightSource& source, Equalization equalization)
    : source_(source), equalization_(std::move(equalization)), tensors_(source.tensors()) {
  exponents_.resize(tensors_.size());
  int32_t layer_of_norm = -1;  // the last layer whose first norm was met
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const TensorSpec& spec = tensors_[i].spec;
    if (spec.layer < 0) continue;
    tensors_[i].format = WeightFormat::kF32;
    const LayerEqualization& layer = equalization_[static_cast<size_t>(spec.layer)];
    const auto at = [&](InputPoint point) {
      const std::vector<int8_t>& exponents = layer[static_cast<size_t>(point)];
      return exponents.empty() ? nullptr : &exponents;
    };
    // What this linear, or its bias, makes for others to read.
    const std::vector<int8_t>* made =
        spec.linear_kind == LinearKind::kV    ? at(InputPoint::kAttentionOut)
        : spec.linear_kind == LinearKind::kUp ? at(InputPoint::kFfnOut)
                                              : nullptr;
    if (spec.role == TensorRole::kLinear) {
      exponents_[i] = {at(input_point(spec.linear_kind)), 1, made};
    } else if (spec.role == TensorRole::kBias) {
      exponents_[i] = {made, -1, nullptr};
    } else {
      const bool is_first = layer_of_norm != spec.layer;
      layer_of_norm = spec.layer;
      exponents_[i] = {at(is_first ? InputPoint::kAttention : InputPoint::kFfn), -1, nullptr};
    }
  }
}

Status EqualizedSource::read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer,
                                   WeightPiece* out) {
  const auto index = static_cast<size_t>(tensor);
  WeightPiece found;
  FLEXQ_RETURN_IF_ERROR(source_.read_piece(tensor, piece, buffer, &found));
  const TensorSpec& spec = tensors_[index].spec;
  if (spec.layer < 0) {
    *out = found;
    return {};
  }
  const int64_t n_cols = spec.cols;
  const int64_t bytes = found.n_rows * n_cols * int64_t{sizeof(float)};
  if (buffer.stored.size() < bytes) {
    FLEXQ_ASSIGN_OR_RETURN(buffer.stored, HostBuffer::allocate(bytes, "equalized piece"));
  }
  auto* const values = reinterpret_cast<float*>(buffer.stored.data());
  dense_to_float(source_.tensors()[index].format, found.values, found.n_rows * n_cols, values);
  static const std::array<float, 2 * kMostExponent + 1> powers = make_powers();
  const Exponents& exponents = exponents_[index];
  for (int64_t row = 0; row < found.n_rows; ++row) {
    const int32_t of_row = exponent_at(exponents.rows, found.row_begin + row);
    for (int64_t col = 0; col < n_cols; ++col) {
      const int32_t exponent = exponents.column_sign * exponent_at(exponents.columns, col) - of_row;
      values[row * n_cols + col] *= powers[static_cast<size_t>(exponent + kMostExponent)];
    }
  }
  // Whoever reads this source finds room for results where other unquantized sources leave it.
  std::swap(buffer.stored, buffer.decoded);
  *out = {found.row_begin, found.n_rows, buffer.decoded.data(), nullptr};
  return {};
}

}  // namespace flexq
