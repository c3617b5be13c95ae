// The packed layout of 6-bit weights that the CUDA binary tensor-core kernels read: bit planes.
//
// A matrix W[N, K] is cut into units of 16 rows x 128 columns (one quantization group per row):
// unit (block b, group g) has its planes at codes + unit_index * kUnitBytes and its 16 fp16 scales
// at scales + unit_index * 32 bytes, unit_index = b * G + g, as in cuda_int8_layout.h. Rows past N
// and columns past K have q = 0; rows past N have scale 0.
//
// Plane p of a row is bit p of its 128 two's-complement codes: q = sum of 2^p plane_p, the top
// plane counted negative. 128 bits of 16 rows are the A operand of mma.m16n8k128 .b1, whose lane
// l holds, with r = l / 4 and t = l % 4,
//
//     a0 = row r,     columns t*32 .. t*32 + 31        b0 = column r of B, the same k
//     a1 = row r + 8, columns t*32 .. t*32 + 31
//
// so that the 6 planes of a unit are 12 words of a lane, word 2p + h being plane p of row r + 8h:
// 3 loads of 16 bytes, load i = words 4i .. 4i + 3 (planes 2i and 2i + 1) at (i * 32 + lane) * 16.
// Nothing is shuffled or unpacked: a loaded register is an operand.
//
// The order of columns inside a word is free as long as both operands agree. Column j of a word
// (0..31) is bit (j % 4) * 8 + j / 4: then 32 consecutive int8 codes, read as 8 registers, become
// their 8 planes by one 8 x 8 bit transpose of four byte lanes at once (transpose_planes).
//
// Activations have 8 planes, the 8 columns of B: 128 bytes per token and group, word p * 4 + t.
// Codes of 6 bits are sign-extended bytes, whose planes 5, 6 and 7 are the same:
// 2^5 + 2^6 - 2^7 = -2^5, so that planes weighted as those of 8 bits are exact for both.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define FLEXQ_HOST_DEVICE __host__ __device__
#else
#define FLEXQ_HOST_DEVICE
#endif

namespace flexq::cuda_btc {

inline constexpr int64_t kUnitRows = 16;
inline constexpr int64_t kGroupSize = 128;
inline constexpr int32_t kWeightPlanes = 6;
inline constexpr int32_t kActivationPlanes = 8;
inline constexpr int32_t kWordColumns = 32;
inline constexpr int64_t kUnitBytes = 1536;
inline constexpr int64_t kUnitScaleBytes = kUnitRows * 2;
inline constexpr int32_t kWordsPerGroup = kActivationPlanes * 4;  // of one token's planes
static_assert(kUnitBytes * 8 == kUnitRows * kGroupSize * kWeightPlanes, "no bit is wasted");

FLEXQ_HOST_DEVICE constexpr int64_t n_blocks(int64_t n_rows) {
  return (n_rows + kUnitRows - 1) / kUnitRows;
}
FLEXQ_HOST_DEVICE constexpr int64_t n_groups(int64_t n_cols) {
  return (n_cols + kGroupSize - 1) / kGroupSize;
}
constexpr int64_t codes_bytes(int64_t n_rows, int64_t n_cols) {
  return n_blocks(n_rows) * n_groups(n_cols) * kUnitBytes;
}
constexpr int64_t scales_bytes(int64_t n_rows, int64_t n_cols) {
  return n_blocks(n_rows) * n_groups(n_cols) * kUnitScaleBytes;
}

// Where the bits of one weight of a unit are: bit p of its code lies in word 2p + half of the lane.
struct Place {
  int32_t lane;  // 0..31
  int32_t half;  // 0: row lane / 4, 1: row lane / 4 + 8
  int32_t bit;   // 0..31
};
FLEXQ_HOST_DEVICE constexpr int32_t column_bit(int32_t column_in_word) {
  return column_in_word % 4 * 8 + column_in_word / 4;
}
FLEXQ_HOST_DEVICE constexpr Place place_of(int32_t row, int32_t col) {
  return {row % 8 * 4 + col / kWordColumns, row / 8, column_bit(col % kWordColumns)};
}

// Byte of the unit at which a lane's word of a plane starts.
FLEXQ_HOST_DEVICE constexpr int32_t word_byte(int32_t lane, int32_t plane, int32_t half) {
  const int32_t word = plane * 2 + half;
  return (word / 4 * 32 + lane) * 16 + word % 4 * 4;
}

// Word of a token's planes of one group (kWordsPerGroup) that holds columns t*32 .. t*32 + 31.
FLEXQ_HOST_DEVICE constexpr int32_t activation_word(int32_t plane, int32_t t) {
  return plane * 4 + t;
}

// What plane p counts in a two's-complement number of n planes.
FLEXQ_HOST_DEVICE constexpr int32_t plane_factor(int32_t plane, int32_t n_planes) {
  return plane == n_planes - 1 ? -(1 << plane) : 1 << plane;
}

// Exchanges the bits of `high` selected by mask << shift with those of `low` selected by mask.
FLEXQ_HOST_DEVICE constexpr void swap_bits(uint32_t& high, uint32_t& low, int32_t shift,
                                           uint32_t mask) {
  const uint32_t different = ((high >> shift) ^ low) & mask;
  low ^= different;
  high ^= different << shift;
}

// words: 32 consecutive int8 codes as 8 little-endian words; becomes plane p of them in words[p].
// 48 integer instructions for 256 bits.
FLEXQ_HOST_DEVICE constexpr void transpose_planes(uint32_t (&words)[8]) {
  for (int32_t i = 0; i < 4; ++i)
    swap_bits(words[i], words[i + 4], 4, 0x0f0f0f0fu);
  for (int32_t i = 0; i < 8; i += i % 4 == 1 ? 3 : 1) {
    swap_bits(words[i], words[i + 2], 2, 0x33333333u);
  }
  for (int32_t i = 0; i < 8; i += 2)
    swap_bits(words[i], words[i + 1], 1, 0x55555555u);
}

}  // namespace flexq::cuda_btc
