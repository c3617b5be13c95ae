// Rows of fp32 are read in quads of 4 consecutive floats, at once where they are aligned.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace flexq {

inline constexpr int32_t kQuad = 4;

// Values [first, first + 4) of n, zeros past n.
__device__ inline float4 load_quad(const float* values, int64_t first, int64_t n, bool aligned) {
  if (aligned && first + kQuad <= n) return *reinterpret_cast<const float4*>(values + first);
  float4 quad = make_float4(0, 0, 0, 0);
  if (first < n) quad.x = values[first];
  if (first + 1 < n) quad.y = values[first + 1];
  if (first + 2 < n) quad.z = values[first + 2];
  if (first + 3 < n) quad.w = values[first + 3];
  return quad;
}

__device__ inline bool is_finite(float4 quad) {
  return isfinite(quad.x) && isfinite(quad.y) && isfinite(quad.z) && isfinite(quad.w);
}

}  // namespace flexq
