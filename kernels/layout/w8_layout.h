// The packed layout of 8-bit weights in groups of 128 that the CPU kernels read: the units of
// w6_layout.h with nothing to unpack.
//
// Unit (block b, group g), 16 rows x 128 columns, has its codes at codes + unit_index * 2048 and
// its 16 fp16 scales at scales + unit_index * 16, unit_index = b * G + g. Codes are stored as
// unsigned u = q + 128 (0..255) in 32 steps of 4 columns: step s holds columns 4s .. 4s+3 as 64
// bytes, row r at bytes 4r .. 4r+3.
//
// Rows past N and columns past K have q = 0; rows past N have scale 0.
#pragma once

#include <cstdint>

#include "kernels/layout/w6_layout.h"

namespace flexq::w8 {

inline constexpr int64_t kUnitRows = w6::kUnitRows;
inline constexpr int64_t kGroupSize = w6::kGroupSize;
inline constexpr int64_t kStepColumns = 4;
inline constexpr int64_t kStepBytes = kUnitRows * kStepColumns;
inline constexpr int64_t kUnitBytes = kUnitRows * kGroupSize;

// Sizes of the two arrays of a packed (n_rows, n_cols) matrix; see w6::codes_bytes.
constexpr int64_t codes_bytes(int64_t n_rows, int64_t n_cols) {
  return w6::n_blocks(n_rows) * w6::n_groups(n_cols) * kUnitBytes;
}
constexpr int64_t scales_bytes(int64_t n_rows, int64_t n_cols) {
  return w6::scales_bytes(n_rows, n_cols);
}

// Packs the rows [row_begin, row_begin + n_rows) of an (N, K) matrix into their place in the arrays
// of the whole matrix. Different ranges touch different bytes: threads may pack ranges in parallel.
//   codes          (n_rows, K) of this range only, row-major, any int8
//   scales         (n_rows, G) of this range only, fp16 bit patterns
//   row_begin      a multiple of 16; n_rows too, unless the range ends at row N
//   packed_codes   codes_bytes(N, K), packed_scales: scales_bytes(N, K), of the whole matrix
void pack_w8_rows(const int8_t* codes, const uint16_t* scales, int64_t row_begin, int64_t n_rows,
                  int64_t N, int64_t K, uint8_t* packed_codes, uint16_t* packed_scales);

// The inverse: reads the same range back into codes (n_rows, K) and scales (n_rows, G).
void unpack_w8_rows(const uint8_t* packed_codes, const uint16_t* packed_scales, int64_t row_begin,
                    int64_t n_rows, int64_t N, int64_t K, int8_t* codes, uint16_t* scales);

}  // namespace flexq::w8
