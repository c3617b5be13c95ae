// The packed layout of 6-bit weights that the CPU kernels read.
//
// A matrix W[N, K] is cut into units of 16 rows x 128 columns (one quantization group per row):
// unit (block b, group g) has its codes at codes + unit_index * 1536 and its 16 fp16 scales at
// scales + unit_index * 16, unit_index = b * G + g, so one block of 16 rows is one linear stream.
//
// Codes are stored as unsigned u = q + 32 (0..63). Columns go in steps of 4: step s holds columns
// 4s .. 4s+3 of the 16 rows as 64 bytes, row r at bytes 4r .. 4r+3. That is what a byte dot product
// wants: one 32-bit lane per row, against 4 broadcast activations. Four steps 4a .. 4a+3 make a
// quad, stored as three planes of 64 bytes (one cache line, one AVX-512 or two AVX2 registers):
//
//     bit      7 6           5 4 3 2 1 0
//     plane 0  bits 5-4 of D | u of step 4a        D = u of step 4a+3,
//     plane 1  bits 3-2 of D | u of step 4a+1      spread over the top bits
//     plane 2  bits 1-0 of D | u of step 4a+2      of the other three
//
// Three registers are one AND away from their weights and the fourth takes 3 shifts, 3 ANDs and 2
// ORs: 11 instructions for 4 registers, where nibbles and crumbs take 17.
//
// Rows past N and columns past K have q = 0; rows past N have scale 0.
#pragma once

#include <cstdint>

namespace flexq::w6 {

inline constexpr int64_t kUnitRows = 16;
inline constexpr int64_t kGroupSize = 128;  // columns of a unit, and of a scale
inline constexpr int64_t kPlaneBytes = 64;
inline constexpr int64_t kPlanesPerQuad = 3;
inline constexpr int64_t kQuadColumns = 16;
inline constexpr int64_t kQuadBytes = kPlaneBytes * kPlanesPerQuad;
inline constexpr int64_t kQuadsPerUnit = kGroupSize / kQuadColumns;
inline constexpr int64_t kUnitBytes = kQuadBytes * kQuadsPerUnit;
static_assert(kUnitBytes * 8 == kUnitRows * kGroupSize * 6, "no bit of a unit is wasted");

// Blocks of 16 rows, the last one possibly padded.
constexpr int64_t n_blocks(int64_t n_rows) {
  return (n_rows + kUnitRows - 1) / kUnitRows;
}

// Groups of 128 columns, the last one possibly padded.
constexpr int64_t n_groups(int64_t n_cols) {
  return (n_cols + kGroupSize - 1) / kGroupSize;
}

// Sizes of the two arrays of a packed (n_rows, n_cols) matrix. They fit int64_t when
// n_rows * n_cols, both rounded up, does: callers validate shapes from files before.
constexpr int64_t codes_bytes(int64_t n_rows, int64_t n_cols) {
  return n_blocks(n_rows) * n_groups(n_cols) * kUnitBytes;
}
constexpr int64_t scales_bytes(int64_t n_rows, int64_t n_cols) {
  return n_blocks(n_rows) * n_groups(n_cols) * kUnitRows * static_cast<int64_t>(sizeof(uint16_t));
}

// Packs the rows [row_begin, row_begin + n_rows) of an (N, K) matrix into their place in the arrays
// of the whole matrix. Different ranges touch different bytes: threads may pack ranges in parallel.
//   codes          (n_rows, K) of this range only, row-major, each in [-32, 31]
//   scales         (n_rows, G) of this range only, fp16 bit patterns
//   row_begin      a multiple of 16; n_rows too, unless the range ends at row N
//   packed_codes   codes_bytes(N, K), packed_scales: scales_bytes(N, K), of the whole matrix
void pack_w6_rows(const int8_t* codes, const uint16_t* scales, int64_t row_begin, int64_t n_rows,
                  int64_t N, int64_t K, uint8_t* packed_codes, uint16_t* packed_scales);

// The inverse: reads the same range back into codes (n_rows, K) and scales (n_rows, G).
void unpack_w6_rows(const uint8_t* packed_codes, const uint16_t* packed_scales, int64_t row_begin,
                    int64_t n_rows, int64_t N, int64_t K, int8_t* codes, uint16_t* scales);

}  // namespace flexq::w6
