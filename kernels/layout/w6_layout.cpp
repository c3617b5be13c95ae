// Packing works on four codes at a time as a 32-bit word: a row's 16 columns of a quad are four
// such words in the source and one word in each plane, four rows are 16 bytes of each plane.
// Little-endian hosts only.
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

// u -> q: with bit 7 set no byte borrows from its neighbour.
uint32_t to_signed_codes(uint32_t word) {
  return ((word | 0x80808080u) - 0x20202020u) ^ 0x80808080u;
}

// 16 bytes as words and as halves, in the compiler's vectors (GCC and Clang).
using Words = uint32_t __attribute__((vector_size(16)));
using Halves = uint16_t __attribute__((vector_size(16)));

constexpr int64_t kPackedRows = 4;  // that pack_unit_rows takes at once

// The 16 columns of one row's quad, as the words of three planes; the fourth is without meaning.
Words pack_quad(const int8_t* columns) {
  Words words;
  std::memcpy(&words, columns, sizeof(words));
  // q in [-32, 31] -> u = q + 32: flipping bit 5 of the low six bits adds 32.
  words = (words & 0x3f3f3f3fu) ^ 0x20202020u;
  const Words d = __builtin_shufflevector(words, words, 3, 3, 3, 3);
  // d << 2, d << 4, d << 6: what a byte pushes into its neighbour stays under the mask.
  const Halves shifted = reinterpret_cast<Halves>(d) * Halves{4, 4, 16, 16, 64, 64, 0, 0};
  return words | (reinterpret_cast<Words>(shifted) & 0xc0c0c0c0u);
}

// Four rows of one unit, from `row` on. sources: 128 codes each.
void pack_unit_rows(const int8_t* const sources[kPackedRows], int64_t row, uint8_t* unit) {
  for (int64_t quad = 0; quad < kQuadsPerUnit; ++quad) {
    const int64_t column = quad * kQuadColumns;
    const Words r0 = pack_quad(sources[0] + column);
    const Words r1 = pack_quad(sources[1] + column);
    const Words r2 = pack_quad(sources[2] + column);
    const Words r3 = pack_quad(sources[3] + column);
    const Words low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);
    const Words low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
    const Words high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
    const Words high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    const Words planes[kPlanesPerQuad] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                                          __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                                          __builtin_shufflevector(high01, high23, 0, 1, 4, 5)};
    for (int64_t plane = 0; plane < kPlanesPerQuad; ++plane)
      std::memcpy(unit + quad * kQuadBytes + plane * kPlaneBytes + row * kWordColumns,
                  &planes[plane], sizeof(Words));
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
  int8_t padded[kPackedRows][kGroupSize] = {};  // of a last group; stays zero behind its columns
  for (int64_t block = row_begin / kUnitRows; block < block_end; ++block) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t unit_index = block * groups + group;
      const int64_t first_column = group * kGroupSize;
      const int64_t columns = std::min(kGroupSize, K - first_column);
      uint8_t* unit = packed_codes + unit_index * kUnitBytes;
      for (int64_t row = 0; row < kUnitRows; row += kPackedRows) {
        const int8_t* sources[kPackedRows];
        for (int64_t i = 0; i < kPackedRows; ++i) {
          const int64_t source_row = block * kUnitRows + row + i - row_begin;
          const bool exists = source_row < n_rows;
          sources[i] = exists ? codes + source_row * K + first_column : zeros;
          if (exists && columns < kGroupSize) {
            std::memcpy(padded[i], sources[i], static_cast<size_t>(columns));
            sources[i] = padded[i];
          }
          packed_scales[unit_index * kUnitRows + row + i] =
              exists ? scales[source_row * groups + group] : uint16_t{0};
        }
        pack_unit_rows(sources, row, unit);
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
