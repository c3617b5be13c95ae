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

// Where the 16-byte piece `piece` (16 codes) of a position lies in a raw int8 tile: its rows are as
// long as those of half as many halves.
template <int kDim>
__device__ inline int raw_offset(int position, int piece) {
  return tile_offset<kDim / 2>(position, piece);
}

// Four int8 codes as two pairs of halves, of bytes 0, 1 and 2, 3: by their bits, since conversions
// are made at a quarter of the rate. 0x6400 | u is 1024 + u; u = code + 128.
__device__ inline uint32_t biased_codes(uint32_t codes) {
  return codes ^ 0x80808080u;
}
__device__ inline uint32_t pair_of_codes(uint32_t biased, uint32_t selector, __half2 scale) {
  const uint32_t bits = __byte_perm(biased, 0x64646464u, selector);
  const __half2 bias = __half2half2(__ushort_as_half(0x6480));  // 1024 + 128
  const __half2_raw product =
      __hmul2(__hsub2(*reinterpret_cast<const __half2*>(&bits), bias), scale);
  return static_cast<uint32_t>(product.x) | static_cast<uint32_t>(product.y) << 16;
}
inline constexpr uint32_t kLowPair = 0x4140;
inline constexpr uint32_t kHighPair = 0x4342;

// Two fp16 scales from their bits.
__device__ inline __half2 pair_of_scales(uint32_t bits) {
  return *reinterpret_cast<const __half2*>(&bits);
}

// In which order a step of 16 columns enters a product: as they lie, or so that a lane's four
// elements, 2t, 2t + 1, 2t + 8 and 2t + 9 of the step, are columns 4t .. 4t + 3, which lie in one
// word of codes. Keys of int8 and the queries they meet have the second.
template <bool kInt8>
__device__ inline int column_of_pair(int step, int half, int lane) {
  return kInt8 ? step * 16 + lane % 4 * 4 + half * 2 : step * 16 + half * 8 + lane % 4 * 2;
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
    if constexpr (kInt8) return raw_offset<kDim>(position, column / 16) + column % 16;
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
    if (kv.head_dim == kDim)
      copy_page(from, n_rows, warp * kKvPageTokens, lane, shared);
    else
      copy_rows(kv, from, n_rows, warp * kKvPageTokens, lane, shared);
    if constexpr (kInt8) {
      auto* scales = reinterpret_cast<uint16_t*>(shared + kPositions * kDim);
      const uint8_t* page_scales = from + kKvPageTokens * kv.head_dim;
      if (lane < kKvPageTokens / 2) {
        // Past the last position: zeros, as the codes there.
        const int32_t n_valid = min(max(n_rows - lane * 2, 0), 2);
        float_copy::copy4(scales + warp * kKvPageTokens + lane * 2, page_scales + lane * 4,
                          n_valid * 2);
      }
    }
  }

  // Raw int8 tile to fp16: code * scale, rounded to fp16. By all threads of the CTA. kKeys: with
  // the columns of each 16 in the order of column_of_pair().
  template <bool kKeys>
  __device__ static void convert(const uint8_t* raw, uint8_t* tile) {
    constexpr int kPieces = kDim / 16;
    const auto* scales = reinterpret_cast<const uint16_t*>(raw + kPositions * kDim);
    for (int i = static_cast<int>(threadIdx.x); i < kPositions * kPieces; i += kKvWarps * 32) {
      const int position = i / kPieces;
      const int piece = i % kPieces;
      const uint4 codes = *reinterpret_cast<const uint4*>(raw + raw_offset<kDim>(position, piece));
      const uint32_t scale_bits = scales[position];
      const __half2 scale = pair_of_scales(scale_bits | scale_bits << 16);
      const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
      uint32_t low[4];
      uint32_t high[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const uint32_t biased = biased_codes(words[k]);
        low[k] = pair_of_codes(biased, kLowPair, scale);
        high[k] = pair_of_codes(biased, kHighPair, scale);
      }
      auto* first_half = reinterpret_cast<uint4*>(tile + tile_offset<kDim>(position, piece * 2));
      auto* second_half =
          reinterpret_cast<uint4*>(tile + tile_offset<kDim>(position, piece * 2 + 1));
      if constexpr (kKeys) {
        *first_half = make_uint4(low[0], low[1], low[2], low[3]);
        *second_half = make_uint4(high[0], high[1], high[2], high[3]);
      } else {
        *first_half = make_uint4(low[0], high[0], low[1], high[1]);
        *second_half = make_uint4(low[2], high[2], low[3], high[3]);
      }
    }
  }

 private:
  static constexpr int kRowPieces = kDim / kPieceElements;
  static constexpr int kCopyRows = 32 / kRowPieces;  // of a copy by all lanes, 512 bytes
  static constexpr int kCopies = (kKvPageTokens * kRowPieces + 31) / 32;

  // The rows of one page where they are kDim elements long: one stretch of memory. The page may be
  // any where n_rows is 0 or less.
  __device__ static void copy_page(const uint8_t* from, int32_t n_rows, int first_row, int lane,
                                   uint8_t* shared) {
    const int row = lane / kRowPieces;
    if (kCopyRows > kKvPageTokens && row >= kKvPageTokens) return;
    const int first = element_offset(first_row + row, lane % kRowPieces * kPieceElements);
    copy_from<0>(from + lane * 16, n_rows - row, float_copy::shared_address(shared),
                 static_cast<uint32_t>(first));
  }

  // The copies from the kFirst-th on. Rows kCopyRows apart differ in how their pieces are swapped
  // by bits that the lane's own row does not have; where rows are shorter than 128 bytes, not at
  // all.
  template <int kFirst>
  __device__ static void copy_from(const uint8_t* from, int32_t n_rows, uint32_t tile,
                                   uint32_t first) {
    constexpr uint32_t kSwap = kRowPieces < 8 ? 0 : (kFirst * kCopyRows & 7) * 16;
    float_copy::copy16_at<kFirst * 512, kFirst * 512>(tile + (first ^ kSwap), from,
                                                      kFirst * kCopyRows < n_rows ? 16 : 0);
    if constexpr (kFirst + 1 < kCopies) copy_from<kFirst + 1>(from, n_rows, tile, first);
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
