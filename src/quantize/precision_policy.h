// Precision policies: which linear layers are quantized, and how wide their inputs are.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"
#include "model/model_config.h"

namespace flexq {

inline constexpr size_t kLinearKinds = 7;

// How the linears of one layer take their inputs, by LinearKind: 6 or 8 bits quantizes them on the
// fly, 16 leaves them alone.
using LayerBits = std::array<int32_t, kLinearKinds>;
inline constexpr LayerBits kUnquantizedInputs = {16, 16, 16, 16, 16, 16, 16};

struct PrecisionPolicy {
  std::string_view name;
  int32_t weight_bits;  // 6 or 8, in groups of 128; 16: the checkpoint's own type
  LayerBits activation_bits;

  int32_t bits_for(LinearKind kind) const { return activation_bits[static_cast<size_t>(kind)]; }
};

// The policy with 6-bit weights whose activation bits are chosen layer by layer: see auto_policy.h.
// Not one of the fixed ones below.
inline constexpr std::string_view kAutoPolicy = "auto";

// flexq (the paper's: down_proj 8 bits, the others 6), w6a6, w6a8, w6a16, w8a8, w8a16, fp16.
std::span<const PrecisionPolicy> precision_policies();

// kUnsupportedValue, with the names that exist, for any other.
Result<PrecisionPolicy> find_precision_policy(std::string_view name);

}  // namespace flexq
