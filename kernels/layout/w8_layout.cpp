#include "kernels/layout/w8_layout.h"

#include <algorithm>
#include <cstring>

namespace flexq::w8 {
namespace {

constexpr uint32_t kSignBits = 0x80808080u;  // flipping the top bit of a byte adds 128

// One row of one unit: `columns` codes of source, q = 0 past them. source may be null when columns
// is 0.
void pack_unit_row(const int8_t* source, int64_t columns, int64_t row, uint8_t* unit) {
  for (int64_t column = 0; column < kGroupSize; column += kStepColumns) {
    const int64_t present = std::clamp(columns - column, int64_t{0}, kStepColumns);
    uint32_t word = 0;
    if (present > 0) std::memcpy(&word, source + column, static_cast<size_t>(present));
    word ^= kSignBits;
    std::memcpy(unit + column * kUnitRows + row * kStepColumns, &word, sizeof(word));
  }
}

void unpack_unit_row(const uint8_t* unit, int64_t row, int64_t columns, int8_t* target) {
  for (int64_t column = 0; column < columns; column += kStepColumns) {
    uint32_t word;
    std::memcpy(&word, unit + column * kUnitRows + row * kStepColumns, sizeof(word));
    word ^= kSignBits;
    std::memcpy(target + column, &word,
                static_cast<size_t>(std::min(kStepColumns, columns - column)));
  }
}

}  // namespace

void pack_w8_rows(const int8_t* codes, const uint16_t* scales, int64_t row_begin, int64_t n_rows,
                  int64_t N, int64_t K, uint8_t* packed_codes, uint16_t* packed_scales) {
  const int64_t groups = w6::n_groups(K);
  const int64_t block_end = w6::n_blocks(std::min(row_begin + n_rows, N));
  for (int64_t block = row_begin / kUnitRows; block < block_end; ++block) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t unit_index = block * groups + group;
      const int64_t first_column = group * kGroupSize;
      for (int64_t row = 0; row < kUnitRows; ++row) {
        const int64_t source_row = block * kUnitRows + row - row_begin;
        const bool exists = source_row < n_rows;
        pack_unit_row(exists ? codes + source_row * K + first_column : nullptr,
                      exists ? std::min(kGroupSize, K - first_column) : 0, row,
                      packed_codes + unit_index * kUnitBytes);
        packed_scales[unit_index * kUnitRows + row] =
            exists ? scales[source_row * groups + group] : uint16_t{0};
      }
    }
  }
}

void unpack_w8_rows(const uint8_t* packed_codes, const uint16_t* packed_scales, int64_t row_begin,
                    int64_t n_rows, int64_t N, int64_t K, int8_t* codes, uint16_t* scales) {
  const int64_t groups = w6::n_groups(K);
  const int64_t row_end = std::min(row_begin + n_rows, N);
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t unit_index = row / kUnitRows * groups + group;
      const int64_t first_column = group * kGroupSize;
      unpack_unit_row(packed_codes + unit_index * kUnitBytes, row % kUnitRows,
                      std::min(kGroupSize, K - first_column),
                      codes + (row - row_begin) * K + first_column);
      scales[(row - row_begin) * groups + group] =
          packed_scales[unit_index * kUnitRows + row % kUnitRows];
    }
  }
}

}  // namespace flexq::w8
