// Precision policies: which linear layers are quantized, and how wide their inputs are.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"
#include "model/model_config.h"

namespace flexq {

struct PrecisionPolicy {
  std::string_view name;
  int32_t weight_bits;  // 6 or 8, in groups of 128; 16: the checkpoint's own type
  // (7), by LinearKind: 6 or 8 quantizes a layer's input on the fly, 16 leaves it alone.
  std::array<int32_t, 7> activation_bits;

  int32_t bits_for(LinearKind kind) const { return activation_bits[static_cast<size_t>(kind)]; }
};

// flexq (the paper's: down_proj 8 bits, the others 6), w6a6, w6a8, w6a16, w8a8, w8a16, fp16.
std::span<const PrecisionPolicy> precision_policies();

// kUnsupportedValue, with the names that exist, for any other.
Result<PrecisionPolicy> find_precision_policy(std::string_view name);

}  // namespace flexq
