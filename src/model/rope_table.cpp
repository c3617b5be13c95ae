#include "model/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace flexq {
namespace {

// LLaMA 3.1's rule: wavelengths longer than original / low_freq_factor are divided by factor,
// shorter than original / high_freq_factor are kept, those between are blended.
double llama3_frequency(double frequency, const RopeConfig& rope) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double original = rope.original_context_tokens;
  if (wavelength > original / rope.low_freq_factor) return frequency / rope.factor;
  if (wavelength < original / rope.high_freq_factor) return frequency;
  const double blend = (original / wavelength - rope.low_freq_factor) /
                       (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - blend) * frequency / rope.factor + blend * frequency;
}

}  // namespace

RopeTable::RopeTable(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  for (int32_t i = 0; i < config.head_dim; i += 2) {
    double frequency = 1.0 / std::pow(rope.theta, static_cast<double>(i) / config.head_dim);
    if (rope.type == RopeType::kLinear) frequency /= rope.factor;
    if (rope.type == RopeType::kLlama3) frequency = llama3_frequency(frequency, rope);
    inverse_frequencies_.push_back(static_cast<float>(frequency));
  }
}

void RopeTable::angles(int32_t position, float* cos, float* sin) const {
  for (size_t i = 0; i < inverse_frequencies_.size(); ++i) {
    const float angle = static_cast<float>(position) * inverse_frequencies_[i];
    cos[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
    sin[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

RopeRows::RopeRows(const RopeTable& table, int32_t n_positions)
    : table_(&table),
      known_(static_cast<size_t>(n_positions), false),
      rows_(std::make_unique_for_overwrite<float[]>(static_cast<size_t>(n_positions) * 2 *
                                                    static_cast<size_t>(table.n_angles()))) {}

void RopeRows::copy(int32_t position, float* cos, float* sin) {
  const auto index = static_cast<size_t>(position);
  const auto n_angles = static_cast<size_t>(table_->n_angles());
  float* row = rows_.get() + index * 2 * n_angles;
  if (!known_[index]) {
    table_->angles(position, row, row + n_angles);
    known_[index] = true;
  }
  std::copy_n(row, n_angles, cos);
  std::copy_n(row + n_angles, n_angles, sin);
}

}  // namespace flexq
