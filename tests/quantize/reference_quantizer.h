// The definition of section 4 of the design, written down once more in doubles and without any
// of the library's code: what the quantizer is compared with.
#pragma once

#include <cstdint>
#include <vector>

namespace flexq::test {

// x rounded to the nearest fp16 value, ties to even. |x| < 65520.
double round_to_half(double x);
// The bit pattern of a positive normal fp16 value.
uint16_t half_bits(double value);

struct ReferenceRow {
  std::vector<int8_t> codes;     // (n_cols)
  std::vector<uint16_t> scales;  // (ceil(n_cols / 128))
};
ReferenceRow quantize_reference(const float* weights, int64_t n_cols, float multiplier);

}  // namespace flexq::test
