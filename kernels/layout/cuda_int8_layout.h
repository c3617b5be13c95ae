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
// 6 bits: three words per step, so 3 loads of 16 bytes per lane, load i of lane l at (i * 32 + l) *
// 16; 1536 bytes per unit. Words 0 and 1 of step j are words 2j and 2j + 1 of loads 0 and 1, word 2
// is word j of load 2. Per byte:
//
//     bit       7 ... 2          1 0
//     word 0    the code of a0   bits 5-4 of the code of a3
//     word 1    of a1            bits 3-2
//     word 2    of a2            bits 1-0
//
// W & 0xfcfcfcfc is then a register with every weight in the top six bits of its byte, 4 * q as a
// signed number: no sign to extend and no zero point; the fourth takes three shifts. The kernels
// divide the scale by 4, which is exact.
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

// Where two bits of a 6-bit weight are: the byte of the unit and the lower bit in it. Pair 0 is
// bits 1-0 of the code, pair 2 bits 5-4.
struct BitPlace {
  int32_t byte;
  int32_t bit;
};
FLEXQ_HOST_DEVICE constexpr BitPlace pair_place(Place p, int32_t pair) {
  const int32_t word = p.reg < 3 ? p.reg : 2 - pair;  // of the step
  const int32_t in_lane = word < 2 ? p.step * 2 + word : 8 + p.step;
  return {(in_lane / 4 * 32 + p.lane) * 16 + in_lane % 4 * 4 + p.byte,
          p.reg < 3 ? 2 + 2 * pair : 0};
}
// The four A registers of a step of 6-bit weights, every code in the top six bits of its byte, from
// the step's three words.
FLEXQ_HOST_DEVICE constexpr void unpack_step(uint32_t word0, uint32_t word1, uint32_t word2,
                                             uint32_t* a) {
  constexpr uint32_t kCodes = 0xfcfcfcfcu;
  constexpr uint32_t kTopPair = 0xc0c0c0c0u;
  constexpr uint32_t kTopPairs = 0xf0f0f0f0u;
  a[0] = word0 & kCodes;
  a[1] = word1 & kCodes;
  a[2] = word2 & kCodes;
  // Each shift brings its pair to its place, and other bits below and above it.
  const uint32_t top = (word0 << 6 & kTopPair) | (word1 << 4 & ~kTopPair);
  a[3] = ((top & kTopPairs) | (word2 << 2 & ~kTopPairs)) & kCodes;
}

// The three words of a step from four registers of codes, of whose bytes the low six bits count.
FLEXQ_HOST_DEVICE constexpr void pack_step(const uint32_t* codes, uint32_t* words) {
  constexpr uint32_t kCodes = 0xfcfcfcfcu;
  constexpr uint32_t kPair = 0x03030303u;
  for (int i = 0; i < 3; ++i)
    words[i] = (codes[i] << 2 & kCodes) | (codes[3] >> (4 - 2 * i) & kPair);
}

// Byte of an 8-bit unit that holds a weight.
FLEXQ_HOST_DEVICE constexpr int32_t code_byte(Place p) {
  return (p.step * 32 + p.lane) * 16 + p.reg * 4 + p.byte;
}

}  // namespace flexq::cuda_int8
