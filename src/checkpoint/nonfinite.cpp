#include "checkpoint/nonfinite.h"

#include <algorithm>
#include <cstring>

namespace flexq {
namespace {

// Bits: the unsigned integer of the element's size. Scans in blocks without branches inside, which
// compilers vectorize, and looks closer only at a block that has a hit.
template <typename Bits>
std::optional<int64_t> find_exponent(std::span<const uint8_t> values, Bits exponent_mask) {
  constexpr size_t kBlock = 512;
  Bits block[kBlock];
  const size_t n = values.size() / sizeof(Bits);
  for (size_t begin = 0; begin < n; begin += kBlock) {
    const size_t count = std::min(kBlock, n - begin);
    std::memcpy(block, values.data() + begin * sizeof(Bits), count * sizeof(Bits));
    Bits hit = 0;
    for (size_t i = 0; i < count; ++i)
      hit |= static_cast<Bits>((block[i] & exponent_mask) == exponent_mask);
    if (hit == 0) continue;
    const Bits* found = std::find_if(block, block + count, [exponent_mask](Bits bits) {
      return (bits & exponent_mask) == exponent_mask;
    });
    return static_cast<int64_t>(begin) + (found - block);
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> find_nonfinite(std::span<const uint8_t> values, WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return find_exponent<uint32_t>(values, 0x7f800000u);
    case WeightFormat::kF16:
      return find_exponent<uint16_t>(values, 0x7c00u);
    case WeightFormat::kBF16:
      return find_exponent<uint16_t>(values, 0x7f80u);
    case WeightFormat::kInt6Group:
    case WeightFormat::kInt8Group:
    case WeightFormat::kInt8Row:
      break;
  }
  return std::nullopt;
}

}  // namespace flexq
