// Dynamic shared memory that one CTA may ask for, and what keeps two from meeting.
#pragma once

#include <cstdint>

namespace flexq {

// sm: compute capability, 90 for 9.0 (CUDA C++ Programming Guide, technical specifications).
constexpr int64_t shared_bytes_per_cta(int32_t sm) {
  constexpr int64_t kKiB = 1024;
  if (sm < 80) return 64 * kKiB;
  if (sm == 80 || sm == 87) return 163 * kKiB;
  return sm < 90 || sm >= 120 ? 99 * kKiB : 227 * kKiB;
}

// The least with which no two CTAs fit one multiprocessor of sm_90 (228 KiB, 1 KiB of it reserved
// for each CTA); one with up to 113 KiB - 128 bytes fits beside it. In a chain of overlapping
// kernels a multiprocessor with room for two CTAs of the next kernel gets both, and another one
// none.
inline constexpr int64_t kSharedBytesAlone = 113 * 1024 + 128;

}  // namespace flexq
