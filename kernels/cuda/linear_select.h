// Which kernel multiplies a quantized matrix: pure functions, no CUDA header, tested without a GPU.
#pragma once

#include <cstdint>

#include "kernels/cuda/cuda_family.h"
#include "kernels/cuda/shared_limit.h"
#include "kernels/cuda/wgmma_shape.h"
#include "kernels/layout/cuda_int8_layout.h"

namespace flexq {

// Slices of the groups of a quantized (N, K) matrix whose sums are formed apart and then added. One
// for every shape: warps share the groups of a row block by exchanging exact integer dots through
// shared memory, so that no float sum is split, prefill needs no second accumulator and the results
// have the bits of the CPU.
constexpr int32_t k_slices(int64_t /*n_rows*/, int64_t /*n_cols*/) {
  return 1;
}

enum class LinearKernel : int32_t {
  kBinary,       // btc_kernels.h
  kInt8Dp4a,     // int8_linear_dp4a.cu
  kInt8Decode,   // int8_linear_decode.cu
  kInt8Prefill,  // int8_linear_prefill.cu
  kInt8Wgmma,    // int8_linear_wgmma.cu
};

// Rows x tokens of a CTA of the prefill kernel.
enum class Int8Tile : int32_t { k32x32, k64x32, k64x64, k128x64 };

constexpr int64_t tile_rows(Int8Tile tile) {
  return tile == Int8Tile::k128x64 ? 128 : tile == Int8Tile::k32x32 ? 32 : 64;
}
constexpr int64_t tile_tokens(Int8Tile tile) {
  return tile == Int8Tile::k64x64 || tile == Int8Tile::k128x64 ? 64 : 32;
}
// CTAs that the registers of a multiprocessor hold at a time.
constexpr int64_t tile_ctas_per_sm(Int8Tile tile) {
  return tile == Int8Tile::k128x64 ? 2 : tile == Int8Tile::k64x64 ? 3 : 4;
}

// Rows x tokens that a CTA of the wgmma kernel works on at a time: walking a stretch of all rows
// (few tokens), or in tiles, or in tiles of which two CTAs in a cluster share the tokens.
enum class WgmmaTile : int32_t {
  kWalk64x16,
  kWalk64x32,
  kWalk64x64,
  kWalk64x128,
  kWalk128x16,
  kWalk128x32,
  kWalk128x64,
  kWalk192x16,
  kWalk192x32,
  kWalk192x64,
  kWalk256x16,
  kWalk256x32,
  kWalk256x64,
  kTile128x64,
  kTile128x128,
  kTile192x128,
  kTile128x256,
  kPair128x256,
};
inline constexpr WgmmaTile kWgmmaTiles[] = {
    WgmmaTile::kWalk64x16,   WgmmaTile::kWalk64x32,   WgmmaTile::kWalk64x64,
    WgmmaTile::kWalk64x128,  WgmmaTile::kWalk128x16,  WgmmaTile::kWalk128x32,
    WgmmaTile::kWalk128x64,  WgmmaTile::kWalk192x16,  WgmmaTile::kWalk192x32,
    WgmmaTile::kWalk192x64,  WgmmaTile::kWalk256x16,  WgmmaTile::kWalk256x32,
    WgmmaTile::kWalk256x64,  WgmmaTile::kTile128x64,  WgmmaTile::kTile128x128,
    WgmmaTile::kTile192x128, WgmmaTile::kTile128x256, WgmmaTile::kPair128x256};

// Steps are as wide as registers allow. Two groups in a stage make pieces of 3 KB.
constexpr WgmmaShape wgmma_shape(WgmmaTile tile) {
  constexpr bool kStretches = true;
  switch (tile) {
    case WgmmaTile::kWalk64x16:
      return {1, 16, 16, 8, 2, 1, kStretches};
    case WgmmaTile::kWalk64x32:
      return {1, 32, 32, 8, 2, 1, kStretches};
    case WgmmaTile::kWalk64x64:
      return {1, 64, 64, 6, 2, 1, kStretches};
    case WgmmaTile::kWalk64x128:
      return {1, 128, 128, 4, 2, 1, kStretches};
    case WgmmaTile::kWalk128x16:
      return {2, 16, 16, 4, 2, 1, kStretches};
    case WgmmaTile::kWalk128x32:
      return {2, 32, 32, 5, 2, 1, kStretches};
    case WgmmaTile::kWalk128x64:
      return {2, 64, 64, 4, 2, 1, kStretches};
    case WgmmaTile::kWalk192x16:
      return {3, 16, 16, 4, 2, 1, kStretches};
    case WgmmaTile::kWalk192x32:
      return {3, 32, 32, 4, 2, 1, kStretches};
    case WgmmaTile::kWalk192x64:
      return {3, 64, 64, 3, 2, 1, kStretches};
    case WgmmaTile::kWalk256x16:
      return {4, 16, 16, 6, 1, 1, kStretches};
    case WgmmaTile::kWalk256x32:
      return {4, 32, 32, 3, 2, 1, kStretches};
    case WgmmaTile::kWalk256x64:
      return {4, 64, 64, 3, 2, 1, kStretches};
    case WgmmaTile::kTile128x64:
      return {2, 64, 64, 8, 1, 1};
    case WgmmaTile::kTile128x128:
      return {2, 128, 128, 6, 1, 1};
    case WgmmaTile::kTile192x128:
      return {3, 128, 64, 6, 1, 1};
    case WgmmaTile::kTile128x256:
      return {2, 256, 64, 4, 1, 1};
    case WgmmaTile::kPair128x256:
      return {2, 256, 64, 4, 1, 2};
  }
  return {};
}

// From here on the wgmma kernel multiplies on sm_90: at 8 tokens the decode kernel takes 73.6 us
// for 8192 x 28672 on an H100 and 9.4 for 4096 x 4096, wgmma 66 and 8.6.
inline constexpr int64_t kWgmmaMinTokens = 5;
// And from here on where a multiprocessor has more row blocks than kDecodeBlocks: at 2 tokens Q, K
// and V of LLaMA-2-7B take 16 us in one launch on an H200, 23 apart by the decode kernel. With
// fewer blocks half of the warps would have no rows: 4096 x 11008 takes 19 us, the decode
// kernel 13.
inline constexpr int64_t kWgmmaMinTokensManyRows = 2;
inline constexpr int64_t kDecodeBlocks = 2;

// With few blocks and many columns the decode kernel is ahead as far as its first tile of tokens
// goes: 4096 x 11008 at 8 tokens takes 15.0 us on an H200, by wgmma 15.7; 4096 x 4096 7.9 and 7.4.
inline constexpr int64_t kLongCols = 8192;
inline constexpr int64_t kWgmmaMinTokensLong = 9;

// One product to compute.
struct LinearProblem {
  int32_t sm = 0;  // compute capability: 90 for 9.0
  int32_t n_sms = 0;
  CudaFamily family = CudaFamily::kInt8;
  int32_t weight_bits = 6;
  int64_t n_rows = 0;  // of all parts together
  int64_t n_cols = 0;
  int64_t n_tokens = 0;
  bool gated = false;  // silu(gate) * up of two parts
};

struct LinearConfig {
  LinearKernel kernel = LinearKernel::kInt8Dp4a;
  Int8Tile tile = Int8Tile::k32x32;          // of kInt8Prefill
  WgmmaTile wgmma = WgmmaTile::kTile128x64;  // of kInt8Wgmma
  int32_t n_stages = 0;                      // of kInt8Decode
  bool resident = false;                     // of kInt8Decode: activations stay in shared memory
  const char* reason = "";
};

LinearConfig select_linear(const LinearProblem& problem);

// The order of codes that the chosen kernel reads, for the quantizer to write. Where it is natural
// for parts together it is so for each of them.
CodesOrder codes_order(const LinearProblem& problem);

inline constexpr int64_t kInt8PrefillStages = 4;

inline constexpr int32_t kInt8DecodeMaxTokens = 16;
inline constexpr int32_t kInt8DecodeRoundGroups = 8;     // groups and
inline constexpr int32_t kInt8DecodeRoundBlocks = 2;     // row blocks of a stage
inline constexpr int32_t kInt8DecodeTokenDots = 36;      // words between the dots of two tokens
inline constexpr int32_t kInt8DecodeTokenPadBytes = 16;  // between the activations of two tokens

// Tokens come in tiles of 8: one or two of them.
constexpr int64_t int8_decode_tile_tokens(int64_t n_tokens) {
  return n_tokens <= 8 ? 8 : 16;
}
// The activations of a token and 16 bytes more, so that the lanes of a warp find those of 8 tokens
// in different banks.
constexpr int64_t int8_decode_token_bytes(int64_t n_groups) {
  return n_groups * cuda_int8::kGroupSize + 16;
}
// Units and their scales; the activations of a round, where they are not resident.
constexpr int64_t int8_decode_stage_bytes(int32_t weight_bits, int64_t n_tokens, bool resident) {
  return kInt8DecodeRoundGroups * kInt8DecodeRoundBlocks *
             (cuda_int8::unit_bytes(weight_bits) + cuda_int8::kUnitRows * 2) +
         (resident ? 0 : n_tokens * int8_decode_token_bytes(kInt8DecodeRoundGroups));
}
// Stages; resident activations; two buffers of dots and weight scales; the token scales; barriers.
constexpr int64_t int8_decode_shared_bytes(int32_t weight_bits, int64_t n_tokens, int64_t n_stages,
                                           int64_t n_groups, bool resident) {
  const int64_t tokens = int8_decode_tile_tokens(n_tokens);
  const int64_t buffer =
      kInt8DecodeRoundGroups *
      (tokens * kInt8DecodeTokenDots + kInt8DecodeRoundBlocks * cuda_int8::kUnitRows) * 4;
  return n_stages * int8_decode_stage_bytes(weight_bits, n_tokens, resident) +
         (resident ? n_tokens * int8_decode_token_bytes(n_groups) : 0) + 2 * buffer +
         n_groups * tokens * 4 + (2 * n_stages + 5) * 8;
}
// Stages of activations, units and both scales, and two barriers each.
constexpr int64_t int8_prefill_shared_bytes(int32_t weight_bits, Int8Tile tile) {
  const int64_t units = tile_rows(tile) / cuda_int8::kUnitRows;
  return kInt8PrefillStages *
         (tile_tokens(tile) * (cuda_int8::kGroupSize + 4) +
          units * (cuda_int8::unit_bytes(weight_bits) + cuda_int8::kUnitRows * 2) + 16);
}

}  // namespace flexq
