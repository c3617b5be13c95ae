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

// A CTA has one warp for each page of a tile: their rows follow each other.
inline constexpr int kKvWarps = 4;

template <int kDim, bool kInt8>
struct KvTiles {
  static constexpr int kPositions = kTilePositions<kDim>;
  static constexpr int kPages = kPositions / kKvPageTokens;
  static constexpr int kElementBytes = kInt8 ? 1 : 2;
  static constexpr int kPieceElements = 16 / kElementBytes;
  static_assert(kPages <= kKvWarps, "a warp copies one page of a tile at most");

  // Offset of element `column` of a position in a tile (fp16) or raw tile (int8).
  __device__ static int element_offset(int position, int column) {
    if constexpr (kInt8) return position * kDim + column;
    return tile_offset<kDim>(position, column / 8) + column % 8 * 2;
  }

  // The page that holds this warp's part of the tile whose first position is `first`. One past the
  // end is not looked up: the table may not have it.
  __device__ static int32_t page_of(const KvHead& kv, int32_t first) {
    const int32_t page_first = first + static_cast<int32_t>(threadIdx.x) / 32 * kKvPageTokens;
    return page_first < kv.n_positions ? kv.table[page_first / kKvPageTokens] : 0;
  }

  // Starts the copies of this warp's page of the tile whose first position is `first`.
  __device__ static void copy(const KvHead& kv, int32_t page, int32_t first, uint8_t* shared) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (warp >= kPages) return;
    const int32_t n_rows = kv.n_positions - first - warp * kKvPageTokens;
    const uint8_t* from = kv.base + page * kv.page_bytes;
    if (n_rows >= kKvPageTokens && kv.head_dim == kDim)
      copy_full_page(from, warp * kKvPageTokens, lane, shared);
    else
      copy_rows(kv, from, n_rows, warp * kKvPageTokens, lane, shared);
    if constexpr (kInt8) {
      auto* scales = reinterpret_cast<uint16_t*>(shared + kPositions * kDim);
      const uint8_t* page_scales = from + kKvPageTokens * kv.head_dim;
      if (lane < kKvPageTokens / 2) {
        float_copy::copy4(scales + warp * kKvPageTokens + lane * 2, page_scales + lane * 4,
                          lane * 2 < n_rows ? 4 : 0);
      }
    }
  }

  // Raw int8 tile to fp16: code * scale, rounded to fp16. By all threads of the CTA.
  __device__ static void convert(const KvHead& kv, int32_t first, const uint8_t* raw,
                                 uint8_t* tile) {
    constexpr int kPieces = kDim / 8;
    const auto* scales = reinterpret_cast<const uint16_t*>(raw + kPositions * kDim);
    for (int i = static_cast<int>(threadIdx.x); i < kPositions * kPieces; i += kKvWarps * 32) {
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
  // All 16 rows of kDim elements: one stretch of memory.
  __device__ static void copy_full_page(const uint8_t* from, int first_row, int lane,
                                        uint8_t* shared) {
    constexpr int kPieces = kDim / kPieceElements;
    constexpr int kPagePieces = kKvPageTokens * kPieces;
#pragma unroll
    for (int i = 0; i < kPagePieces; i += 32) {
      const int piece = i + lane;
      if (kPagePieces >= 32 || piece < kPagePieces) {
        float_copy::copy16(
            shared + element_offset(first_row + piece / kPieces, piece % kPieces * kPieceElements),
            from + piece * 16, 16);
      }
    }
  }

  // The rows of one page by one warp; `first_row` is the page's first position in the tile.
  __device__ static void copy_rows(const KvHead& kv, const uint8_t* from, int32_t n_rows,
                                   int first_row, int lane, uint8_t* shared) {
    const int32_t row_bytes = kv.head_dim * kElementBytes;
    // Not unrolled, here and below: the addresses would cost the registers that the products need.
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
