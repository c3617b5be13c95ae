// Search for NaN and infinity in stored weights. Works on bit patterns, so that no compiler flag
// about floating point can change it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "model/weight_source.h"

namespace flexq {

// Index of the first element of `values` (dense elements of `format`: kF32, kF16 or kBF16) whose
// exponent bits are all ones.
std::optional<int64_t> find_nonfinite(std::span<const uint8_t> values, WeightFormat format);

}  // namespace flexq
