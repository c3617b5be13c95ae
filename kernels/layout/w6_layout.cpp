// Packing works on four codes at a time as a 32-bit word: a row's 16 columns of a quad are four
// such words in the source and one word in each plane. Little-endian hosts only.
#include "kernels/layout/w6_layout.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace flexq::w6 {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as byte quadruples");

constexpr int64_t kWordColumns = 4;

uint32_t load_word(const void* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

void store_word(void* bytes, uint32_t word) {
  std::memcpy(bytes, &word, sizeof(word));
}

// q in [-32, 31] -> u = q + 32, four bytes at once: flipping bit 5 of the low six bits adds 32.
uint32_t to_unsigned_codes(uint32_t word) {
  return (word & 0x3f3f3f3fu) ^ 0x20202020u;
}

// u -> q: with bit 7 set no byte borrows from its neighbour.
uint32_t to_signed_codes(uint32_t word) {
  return ((word | 0x80808080u) - 0x20202020u) ^ 0x80808080u;
}

// One row of one unit. source: 128 codes.
void pack_unit_row(const int8_t* source, int64_t row, uint8_t* unit) {
  for (int64_t quad = 0; quad < kQuadsPerUnit; ++quad) {
    const int8_t* columns = source + quad * kQuadColumns;
    const uint32_t a = to_unsigned_codes(load_word(columns));
    const uint32_t b = to_unsigned_codes(load_word(columns + kWordColumns));
    const uint32_t c = to_unsigned_codes(load_word(columns + 2 * kWordColumns));
    const uint32_t d = to_unsigned_codes(load_word(columns + 3 * kWordColumns));
    uint8_t* planes = unit + quad * kQuadBytes + row * kWordColumns;
    store_word(planes, a | ((d & 0x30303030u) << 2));
    store_word(planes + kPlaneBytes, b | ((d & 0x0c0c0c0cu) << 4));
    store_word(planes + 2 * kPlaneBytes, c | ((d & 0x03030303u) << 6));
  }
}

void unpack_unit_row(const uint8_t* unit, int64_t row, int8_t* target) {
  for (int64_t quad = 0; quad < kQuadsPerUnit; ++quad) {
    const uint8_t* planes = unit + quad * kQuadBytes + row * kWordColumns;
    const uint32_t a = load_word(planes);
    const uint32_t b = load_word(planes + kPlaneBytes);
    const uint32_t c = load_word(planes + 2 * kPlaneBytes);
    const uint32_t d =
        ((a >> 2) & 0x30303030u) | ((b >> 4) & 0x0c0c0c0cu) | ((c >> 6) & 0x03030303u);
    int8_t* columns = target + quad * kQuadColumns;
    store_word(columns, to_signed_codes(a & 0x3f3f3f3fu));
    store_word(columns + kWordColumns, to_signed_codes(b & 0x3f3f3f3fu));
    store_word(columns + 2 * kWordColumns, to_signed_codes(c & 0x3f3f3f3fu));
    store_word(columns + 3 * kWordColumns, to_signed_codes(d));
  }
}

}  // namespace

void pack_w6_rows(const int8_t* codes, const uint16_t* scales, int64_t row_begin, int64_t n_rows,
                  int64_t N, int64_t K, uint8_t* packed_codes, uint16_t* packed_scales) {
  const int64_t groups = n_groups(K);
  const int64_t block_end = n_blocks(std::min(row_begin + n_rows, N));
  const int8_t zeros[kGroupSize] = {};
  for (int64_t block = row_begin / kUnitRows; block < block_end; ++block) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t unit_index = block * groups + group;
      const int64_t first_column = group * kGroupSize;
      const int64_t columns = std::min(kGroupSize, K - first_column);
      for (int64_t row = 0; row < kUnitRows; ++row) {
        const int64_t source_row = block * kUnitRows + row - row_begin;
        const bool exists = source_row < n_rows;
        const int8_t* source = exists ? codes + source_row * K + first_column : zeros;
        int8_t padded[kGroupSize] = {};
        if (exists && columns < kGroupSize) {
          std::memcpy(padded, source, static_cast<size_t>(columns));
          source = padded;
        }
        pack_unit_row(source, row, packed_codes + unit_index * kUnitBytes);
        packed_scales[unit_index * kUnitRows + row] =
            exists ? scales[source_row * groups + group] : uint16_t{0};
      }
    }
  }
}

void unpack_w6_rows(const uint8_t* packed_codes, const uint16_t* packed_scales, int64_t row_begin,
                    int64_t n_rows, int64_t N, int64_t K, int8_t* codes, uint16_t* scales) {
  const int64_t groups = n_groups(K);
  const int64_t row_end = std::min(row_begin + n_rows, N);
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t unit_index = row / kUnitRows * groups + group;
      const int64_t first_column = group * kGroupSize;
      const int64_t columns = std::min(kGroupSize, K - first_column);
      int8_t unpacked[kGroupSize];
      unpack_unit_row(packed_codes + unit_index * kUnitBytes, row % kUnitRows, unpacked);
      std::memcpy(codes + (row - row_begin) * K + first_column, unpacked,
                  static_cast<size_t>(columns));
      scales[(row - row_begin) * groups + group] =
          packed_scales[unit_index * kUnitRows + row % kUnitRows];
    }
  }
}

}  // namespace flexq::w6
