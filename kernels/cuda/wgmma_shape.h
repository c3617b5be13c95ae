// The shapes in which the wgmma kernel is compiled, and the shared memory they need. No CUDA
// header.
#pragma once

#include <cstdint>

#include "kernels/layout/cuda_int8_layout.h"

namespace flexq {

// A CTA multiplies 64 rows per warpgroup by `tokens` tokens, `step_tokens` per wgmma.
struct WgmmaShape {
  int32_t warpgroups = 2;
  int32_t tokens = 0;
  int32_t step_tokens = 0;
  int32_t most_stages = 0;   // of shared memory, as far as they fit
  int32_t stage_groups = 1;  // groups of 128 columns in a stage, 1 or 2
  int32_t cluster = 1;       // CTAs that share their tokens, 1 or 2
  // Few tokens: a CTA walks an equal stretch of all rows. Else the CTAs take tiles of rows x
  // tokens.
  bool stretches = false;

  constexpr int32_t units() const { return warpgroups * 4; }  // of 16 rows
  constexpr int32_t threads() const { return (warpgroups + 1) * 128; }
  // silu(gate) * up: half of the warpgroups has gate, the other half up.
  constexpr bool gates() const { return warpgroups % 2 == 0; }
};

// Outputs that each thread of a pair of warpgroups hands over at a time for silu(gate) * up. With
// more than two warpgroups half as many: 16 would take the room of a stage.
constexpr int32_t wgmma_exchange_floats(const WgmmaShape& shape) {
  const int32_t most = shape.warpgroups > 2 ? 8 : 16;
  return shape.tokens / 4 < most ? shape.tokens / 4 : most;
}

// Activations, units and both scales of a stage, and its two barriers.
constexpr int64_t wgmma_stage_bytes(int32_t weight_bits, const WgmmaShape& shape) {
  const int64_t group =
      shape.tokens * (cuda_int8::kGroupSize + 4) +
      shape.units() * (cuda_int8::unit_bytes(weight_bits) + cuda_int8::kUnitRows * 2);
  return shape.stage_groups * group + 16;
}
// Without stages: the exchange, and up to 1023 bytes in front, because swizzled tokens start on
// 1024.
constexpr int64_t wgmma_other_bytes(const WgmmaShape& shape) {
  return 1024 + shape.warpgroups * 128 * wgmma_exchange_floats(shape) * 4;
}
// 8-bit weights have room for fewer stages.
constexpr int32_t wgmma_stages(int32_t weight_bits, const WgmmaShape& shape) {
  constexpr int64_t kHopperBytes = 227 * 1024;
  const int64_t room =
      (kHopperBytes - wgmma_other_bytes(shape)) / wgmma_stage_bytes(weight_bits, shape);
  return room < shape.most_stages ? static_cast<int32_t>(room) : shape.most_stages;
}
constexpr int64_t wgmma_shared_bytes(int32_t weight_bits, const WgmmaShape& shape) {
  return wgmma_other_bytes(shape) +
         wgmma_stages(weight_bits, shape) * wgmma_stage_bytes(weight_bits, shape);
}

}  // namespace flexq
