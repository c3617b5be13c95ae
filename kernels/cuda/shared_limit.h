// Dynamic shared memory that one CTA may ask for.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flexq {

// sm: compute capability, 90 for 9.0 (CUDA C++ Programming Guide, technical specifications).
constexpr size_t shared_limit_bytes(int32_t sm) {
  constexpr size_t kKib = 1024;
  if (sm < 80) return 64 * kKib;
  if (sm == 80 || sm == 87) return 163 * kKib;
  return sm < 90 || sm >= 120 ? 99 * kKib : 227 * kKib;
}

}  // namespace flexq
