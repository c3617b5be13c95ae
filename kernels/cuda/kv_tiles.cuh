// K or V of kTilePositions consecutive positions of one sequence and KV head, from the pages of the
// cache into shared memory as fp16 (positions, padded head dim): zeros past head_dim and past the
// last position, whatever the page holds there.
#pragma once

#include <cuda_fp16.h>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/float_async_copy.cuh"

namespace flexq::attention {

inline constexpr int kKvPageTokens = 16;

// Positions of a tile: 16 KiB of fp16 or less.
template <int kDim>
inline constexpr int kTilePositions = kDim == 256 ? 32 : 64;

template <int kDim>
inline constexpr int kTileBytes = kTilePositions<kDim>* kDim * 2;
// An int8 tile as it comes: codes, then scales.
template <int kDim>
inline constexpr int kRawTileBytes = kTilePositions<kDim>*(kDim + 2);

// Where the 16-byte piece `piece` (8 halves) of a position lies in a tile. 8 pieces of consecutive
// positions, and of consecutive pieces, hit 32 banks.
template <int kDim>
__device__ inline int tile_offset(int position, int piece) {
  constexpr int kPieces = kDim / 8;
  constexpr int kRowsPerLine = kPieces < 8 ? 8 / kPieces : 1;
  constexpr int kSwaps = kPieces < 8 ? kPieces : 8;
  const int swap = position / kRowsPerLine & (kSwaps - 1);
  return position * kDim * 2 + (piece ^ swap) * 16;
}

struct KvHead {
  const uint8_t* base;   // K or V of this layer and head in page 0
  const int32_t* table;  // pages of the sequence
  int64_t page_bytes;
  int32_t head_dim;
  int32_t n_positions;  // positions from here on are zeros
};

template <int kDim, bool kInt8, int kWarps>
struct KvTiles {
  static constexpr int kPositions = kTilePositions<kDim>;
  static constexpr int kPages = kPositions / kKvPageTokens;
  static constexpr int kElementBytes = kInt8 ? 1 : 2;
  static constexpr int kPieceElements = 16 / kElementBytes;

  // Offset of element `column` of a position in a tile (fp16) or raw tile (int8).
  __device__ static int element_offset(int position, int column) {
    if constexpr (kInt8) return position * kDim + column;
    return tile_offset<kDim>(position, column / 8) + column % 8 * 2;
  }

  // Starts the copies of the tile whose first position is `first`. A warp takes whole pages: their
  // rows follow each other.
  __device__ static void copy(const KvHead& kv, int32_t first, uint8_t* shared) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    // Not unrolled, here and below: addresses kept for later copies would cost the registers that
    // the products need.
#pragma unroll 1
    for (int page = warp; page < kPages; page += kWarps) {
      const int32_t page_first = first + page * kKvPageTokens;
      // A page past the end is not looked up: the table may not have it.
      const int32_t n_rows = min(kv.n_positions - page_first, kKvPageTokens);
      const uint8_t* from =
          n_rows > 0 ? kv.base + kv.table[page_first / kKvPageTokens] * kv.page_bytes : kv.base;
      copy_rows(kv, from, n_rows, page * kKvPageTokens, lane, shared);
      if constexpr (kInt8) {
        auto* scales = reinterpret_cast<uint16_t*>(shared + kPositions * kDim);
        const uint8_t* page_scales = from + kKvPageTokens * kv.head_dim;
        if (lane < kKvPageTokens / 2) {
          float_copy::copy4(scales + page * kKvPageTokens + lane * 2, page_scales + lane * 4,
                            lane * 2 < n_rows ? 4 : 0);
        }
      }
    }
  }

  // Raw int8 tile to fp16: code * scale, rounded to fp16. By all threads of the CTA.
  __device__ static void convert(const KvHead& kv, int32_t first, const uint8_t* raw,
                                 uint8_t* tile) {
    constexpr int kPieces = kDim / 8;
    const auto* scales = reinterpret_cast<const uint16_t*>(raw + kPositions * kDim);
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kPositions * kPieces; i += kWarps * 32) {
      const int position = i / kPieces;
      const int piece = i % kPieces;
      const bool there = first + position < kv.n_positions;
      const uint2 codes = *reinterpret_cast<const uint2*>(raw + position * kDim + piece * 8);
      __half_raw scale_bits;
      scale_bits.x = there ? scales[position] : uint16_t{0};
      const __half2 scale = __half2half2(__half(scale_bits));
      uint32_t halves[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const uint32_t word = k < 2 ? codes.x : codes.y;
        const auto low = static_cast<int8_t>(word >> (k % 2 * 16));
        const auto high = static_cast<int8_t>(word >> (k % 2 * 16 + 8));
        const __half2 pair = __floats2half2_rn(low, high);
        const __half2_raw product = __hmul2(pair, scale);
        halves[k] = static_cast<uint32_t>(product.x) | static_cast<uint32_t>(product.y) << 16;
      }
      *reinterpret_cast<uint4*>(tile + tile_offset<kDim>(position, piece)) =
          make_uint4(halves[0], halves[1], halves[2], halves[3]);
    }
  }

 private:
  // The rows of one page by one warp; `first_row` is the page's first position in the tile.
  __device__ static void copy_rows(const KvHead& kv, const uint8_t* from, int32_t n_rows,
                                   int first_row, int lane, uint8_t* shared) {
    const int32_t row_bytes = kv.head_dim * kElementBytes;
    if (row_bytes % 16 == 0) {
      constexpr int kPieces = kDim / kPieceElements;
      constexpr int kPagePieces = kKvPageTokens * kPieces;
#pragma unroll 1
      for (int i = lane; i < kPagePieces; i += 32) {
        const int row = i / kPieces;
        const int column = i % kPieces * kPieceElements;
        const bool there = row < n_rows && column < kv.head_dim;
        float_copy::copy16(shared + element_offset(first_row + row, column),
                           there ? from + row * row_bytes + column * kElementBytes : kv.base,
                           there ? 16 : 0);
      }
    } else {
      // Rows that do not start on 16 bytes: element by element.
#pragma unroll 1
      for (int i = lane; i < kKvPageTokens * kDim; i += 32) {
        const int row = i / kDim;
        const int column = i % kDim;
        const bool there = row < n_rows && column < kv.head_dim;
        const uint8_t* element = from + row * row_bytes + column * kElementBytes;
        uint8_t* to = shared + element_offset(first_row + row, column);
        if constexpr (kInt8) {
          *to = there ? *element : uint8_t{0};
        } else {
          *reinterpret_cast<uint16_t*>(to) =
              there ? *reinterpret_cast<const uint16_t*>(element) : uint16_t{0};
        }
      }
    }
  }
};

}  // namespace flexq::attention
