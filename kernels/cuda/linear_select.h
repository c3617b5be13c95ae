// Which kernel multiplies a quantized matrix: pure functions, no CUDA header, tested without a GPU.
#pragma once

#include <cstdint>

#include "kernels/cuda/cuda_family.h"
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
};

// Rows x tokens of a CTA of the prefill kernel.
enum class Int8Tile : int32_t { k32x64, k64x64, k128x128 };

constexpr int64_t tile_rows(Int8Tile tile) {
  return tile == Int8Tile::k32x64 ? 32 : tile == Int8Tile::k64x64 ? 64 : 128;
}
constexpr int64_t tile_tokens(Int8Tile tile) {
  return tile == Int8Tile::k128x128 ? 128 : 64;
}

// One product to compute.
struct LinearProblem {
  int32_t sm = 0;  // compute capability: 90 for 9.0
  int32_t n_sms = 0;
  CudaFamily family = CudaFamily::kInt8;
  int32_t weight_bits = 6;
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  int64_t n_tokens = 0;
};

struct LinearConfig {
  LinearKernel kernel = LinearKernel::kInt8Dp4a;
  Int8Tile tile = Int8Tile::k32x64;  // of kInt8Prefill
  int32_t stages = 0;                // of kInt8Decode: 2 or 4
  int32_t ctas_per_sm = 0;           // of kInt8Decode
  const char* reason = "";
};

LinearConfig select_linear(const LinearProblem& problem);

// Shared memory of a CTA, of the GPU and of the kernels.
int64_t shared_bytes_per_cta(int32_t sm);

inline constexpr int32_t kInt8DecodeMaxTokens = 32;
inline constexpr int64_t kInt8DecodeStageUnits = 16;
inline constexpr int64_t kInt8PrefillStages = 4;

// Tokens come in tiles of 8: 1, 2 or 4 of them.
constexpr int64_t int8_decode_tile_tokens(int64_t n_tokens) {
  return n_tokens <= 8 ? 8 : n_tokens <= 16 ? 16 : 32;
}
// Stages of units with their scales and a barrier; two buffers of dots (20 words per unit and
// token) and weight scales; the token scales.
constexpr int64_t int8_decode_shared_bytes(int32_t weight_bits, int64_t n_tokens, int64_t stages,
                                           int64_t n_groups) {
  const int64_t tokens = int8_decode_tile_tokens(n_tokens);
  const int64_t stage =
      kInt8DecodeStageUnits * (cuda_int8::unit_bytes(weight_bits) + cuda_int8::kUnitRows * 2) + 8;
  return stages * stage + 2 * kInt8DecodeStageUnits * (tokens * 20 + 16) * 4 +
         n_groups * tokens * 4;
}
// Stages of activations, units and both scales.
constexpr int64_t int8_prefill_shared_bytes(int32_t weight_bits, Int8Tile tile) {
  const int64_t units = tile_rows(tile) / cuda_int8::kUnitRows;
  return kInt8PrefillStages *
         (tile_tokens(tile) * (cuda_int8::kGroupSize + 4) +
          units * (cuda_int8::unit_bytes(weight_bits) + cuda_int8::kUnitRows * 2));
}

}  // namespace flexq
