// dot16 and sum16 of cpu_kernels.h in plain C++, and the conversions of stored elements to float,
// for the portable_*.cpp files.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/half.h"

namespace flexq::portable {

inline constexpr int64_t kLanes = 16;

// The tree that ends dot16 and sum16. Clobbers lanes.
inline float reduce_lanes(float* lanes) {
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t lane = 0; lane < width; ++lane)
      lanes[lane] = lanes[lane] + lanes[lane + width];
  }
  return lanes[0];
}

// load(pointer) turns an element of b into float.
template <typename Element, typename Load>
float dot16(const float* a, const Element* b, int64_t n, Load load) {
  float lanes[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] = std::fma(a[k + lane], load(b + k + lane), lanes[lane]);
  }
  if (k < n) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const bool inside = k + lane < n;
      lanes[lane] =
          std::fma(inside ? a[k + lane] : 0.0f, inside ? load(b + k + lane) : 0.0f, lanes[lane]);
    }
  }
  return reduce_lanes(lanes);
}

inline float sum16(const float* a, int64_t n) {
  float lanes[kLanes] = {};
  for (int64_t k = 0; k < n; k += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] = lanes[lane] + (k + lane < n ? a[k + lane] : 0.0f);
  }
  return reduce_lanes(lanes);
}

inline float load_f32(const float* x) {
  return *x;
}
inline float load_f16(const uint16_t* x) {
  return half_to_float(*x);
}
inline float load_bf16(const uint16_t* x) {
  return bf16_to_float(*x);
}
inline float load_i8(const int8_t* x) {
  return static_cast<float>(*x);
}

}  // namespace flexq::portable
