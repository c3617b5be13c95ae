// The packed layouts of quantized weights that the CUDA INT8 tensor-core kernels read.
//
// A matrix W[N, K] is cut into units of 16 rows x 128 columns (one quantization group per row), as
// on the CPU: unit (block b, group g) has its codes at codes + unit_index * kUnitBytes and its 16
// fp16 scales at scales + unit_index * 16, unit_index = b * G + g: a block of 16 rows is one linear
// stream. Rows past N and columns past K have q = 0; rows past N have scale 0.
//
// Inside a unit every lane of a warp owns 2 rows x 32 columns: with g = lane / 4 and t = lane % 4,
// rows g and g + 8, columns t * 32 ... t * 32 + 31, so that a lane reads 32 consecutive activation
// codes of a token. Columns go in 4 steps of 8. Step j of a lane makes the four A registers of
// mma.m16n8k32 (the order of columns inside a group is free as long as both operands agree):
//
//     a0 = row g,     columns t*32 + 8j     .. +3        b0 = token g, columns t*32 + 8j     .. +3
//     a1 = row g + 8, columns t*32 + 8j     .. +3        b1 = token g, columns t*32 + 8j + 4 .. +7
//     a2 = row g,     columns t*32 + 8j + 4 .. +7
//     a3 = row g + 8, columns t*32 + 8j + 4 .. +7
//
// 8 bits: 4 loads of 16 bytes per lane, load j = {a0, a1, a2, a3} of step j. 2048 bytes per unit,
// load j of lane l at (j * 32 + l) * 16.
//
// 6 bits: q = 4 * n + c with n = q >> 2 the top four bits as they stand and c = q & 3. 3 loads of
// 16 bytes per lane, load i of lane l at (i * 32 + l) * 16; 1536 bytes per unit.
//     loads 0, 1: 8 words of nibbles, two per step: word 2j holds n of a0 in the high and of a1 in
//                 the low nibble of each byte, word 2j + 1 likewise of a2 and a3
//     load 2:     4 words of crumbs, one per step: each byte holds c of a0 in bits 2-3, of a1 in
//                 bits 0-1, of a2 in bits 4-5, of a3 in bits 6-7
// (N & 0xf0f0f0f0) | (C & 0x0c0c0c0c) is then the register a0 with every weight in the top six bits
// of its byte, 4 * q as a signed number: no sign to extend and no zero point; the others are one
// shift of N and of C away. The kernels divide the scale by 4, which is exact.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define FLEXQ_HOST_DEVICE __host__ __device__
#else
#define FLEXQ_HOST_DEVICE
#endif

namespace flexq::cuda_int8 {

inline constexpr int64_t kUnitRows = 16;
inline constexpr int64_t kGroupSize = 128;
inline constexpr int64_t kUnitBytes6 = 1536;
inline constexpr int64_t kUnitBytes8 = 2048;

FLEXQ_HOST_DEVICE constexpr int64_t n_blocks(int64_t n_rows) {
  return (n_rows + kUnitRows - 1) / kUnitRows;
}
FLEXQ_HOST_DEVICE constexpr int64_t n_groups(int64_t n_cols) {
  return (n_cols + kGroupSize - 1) / kGroupSize;
}
FLEXQ_HOST_DEVICE constexpr int64_t unit_bytes(int32_t weight_bits) {
  return weight_bits == 6 ? kUnitBytes6 : kUnitBytes8;
}
constexpr int64_t codes_bytes(int64_t n_rows, int64_t n_cols, int32_t weight_bits) {
  return n_blocks(n_rows) * n_groups(n_cols) * unit_bytes(weight_bits);
}
constexpr int64_t scales_bytes(int64_t n_rows, int64_t n_cols) {
  return n_blocks(n_rows) * n_groups(n_cols) * kUnitRows * 2;
}

// Where one weight of a unit is: the lane that owns it and its place among the lane's registers.
struct Place {
  int32_t lane;  // 0..31
  int32_t step;  // 0..3
  int32_t reg;   // 0..3: a0..a3
  int32_t byte;  // 0..3 in the register
};
FLEXQ_HOST_DEVICE constexpr Place place_of(int32_t row, int32_t col) {
  const int32_t in_lane = col % 32;
  return {row % 8 * 4 + col / 32, in_lane / 8, in_lane % 8 / 4 * 2 + row / 8, in_lane % 4};
}

// Activations in CodesOrder::kTensor: where the word of 4 columns from 4 * word on stands among the
// 32 words of a group. wgmma reads 32 consecutive codes of a token per step, of which register h of
// lane t holds 4 * (4 * h + t) .. +3; so the columns t*32 + 8j + 4h .. +3 stand at word 8j + 4h +
// t, and both operands agree on the column behind every k.
FLEXQ_HOST_DEVICE constexpr int32_t tensor_word(int32_t word) {
  return word % 8 * 4 + word / 8;
}

// Byte of the unit that holds the nibble of a weight, and whether it is the high one.
FLEXQ_HOST_DEVICE constexpr int32_t nibble_byte(Place p) {
  const int32_t word = p.step * 2 + p.reg / 2;
  return (word / 4 * 32 + p.lane) * 16 + word % 4 * 4 + p.byte;
}
FLEXQ_HOST_DEVICE constexpr bool nibble_is_high(Place p) {
  return p.reg % 2 == 0;
}
// Byte of the unit that holds the crumb of a weight, and the bit it starts at.
FLEXQ_HOST_DEVICE constexpr int32_t crumb_byte(Place p) {
  return (2 * 32 + p.lane) * 16 + p.step * 4 + p.byte;
}
FLEXQ_HOST_DEVICE constexpr int32_t crumb_shift(Place p) {
  return p.reg == 0 ? 2 : p.reg == 1 ? 0 : p.reg * 2;
}
// Byte of an 8-bit unit that holds a weight.
FLEXQ_HOST_DEVICE constexpr int32_t code_byte(Place p) {
  return (p.step * 32 + p.lane) * 16 + p.reg * 4 + p.byte;
}

}  // namespace flexq::cuda_int8
