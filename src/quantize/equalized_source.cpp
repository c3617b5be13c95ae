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
    const std::vector<int8_t>* read = at(input_point(spec.linear_kind));
    if (spec.role == TensorRole::kLinear) exponents_[i] = {read, 1, made};
    if (spec.role == TensorRole::kBias) exponents_[i] = {made, -1, nullptr};
    if (spec.role == TensorRole::kNorm) exponents_[i] = {read, -1, nullptr};
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
  if (buffer.equalized.size() < bytes) {
    FLEXQ_ASSIGN_OR_RETURN(buffer.equalized, HostBuffer::allocate(bytes, "equalized piece"));
  }
  auto* const values = reinterpret_cast<float*>(buffer.equalized.data());
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
  *out = {found.row_begin, found.n_rows, buffer.equalized.data(), nullptr};
  return {};
}

}  // namespace flexq
