// Packing for binary tensor cores: 6-bit codes into bit planes in fragment order.
#include <cuda_fp16.h>

#include "kernels/cuda/btc_kernels.h"
#include "kernels/layout/cuda_btc_layout.h"

namespace flexq {
namespace {

constexpr int32_t kWarps = 8;

// 32 codes of a row from column `begin` on, zero past K, as 8 words.
__device__ void load_codes(const int8_t* row, int64_t begin, int64_t K, bool aligned,
                           uint32_t (&words)[8]) {
  for (uint32_t& word : words)
    word = 0;
  if (aligned && begin + cuda_btc::kWordColumns <= K) {
    for (int32_t i = 0; i < 2; ++i) {
      const uint4 loaded = reinterpret_cast<const uint4*>(row + begin)[i];
      words[i * 4 + 0] = loaded.x;
      words[i * 4 + 1] = loaded.y;
      words[i * 4 + 2] = loaded.z;
      words[i * 4 + 3] = loaded.w;
    }
    return;
  }
#pragma unroll
  for (int32_t j = 0; j < cuda_btc::kWordColumns; ++j) {
    if (begin + j < K) words[j / 4] |= uint32_t{static_cast<uint8_t>(row[begin + j])} << j % 4 * 8;
  }
}

// One warp per unit: lane l packs its two rows x 32 columns, lanes 0..15 the scales of the 16 rows.
// Grid: (units / kWarps, 1, 1), 32 * kWarps threads, no shared memory. `aligned`: rows start on 16
// bytes.
__global__ void __launch_bounds__(kWarps * 32)
    pack_btc(const int8_t* codes, const uint16_t* scales, int64_t first_block, int64_t n_units,
             int64_t n_rows, int64_t K, bool aligned, uint8_t* packed_codes,
             uint8_t* packed_scales) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  const int64_t unit = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (unit >= n_units) return;
  const int64_t n_groups = cuda_btc::n_groups(K);
  const int64_t block = unit / n_groups;
  const int64_t group = unit % n_groups;
  const int64_t packed_unit = (first_block + block) * n_groups + group;

  uint32_t planes[2][8] = {};  // of rows lane / 4 and lane / 4 + 8
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    const int64_t row = block * cuda_btc::kUnitRows + lane / 4 + half * 8;
    if (row >= n_rows) continue;
    const int64_t begin = group * cuda_btc::kGroupSize + lane % 4 * cuda_btc::kWordColumns;
    load_codes(codes + row * K, begin, K, aligned, planes[half]);
    cuda_btc::transpose_planes(planes[half]);
  }
  uint8_t* const to = packed_codes + packed_unit * cuda_btc::kUnitBytes;
#pragma unroll
  for (int32_t plane = 0; plane < cuda_btc::kWeightPlanes; plane += 2) {
    *reinterpret_cast<uint4*>(to + cuda_btc::word_byte(lane, plane, 0)) =
        make_uint4(planes[0][plane], planes[1][plane], planes[0][plane + 1], planes[1][plane + 1]);
  }
  if (lane < cuda_btc::kUnitRows) {
    const int64_t row = block * cuda_btc::kUnitRows + lane;
    auto* const to_scales =
        reinterpret_cast<uint16_t*>(packed_scales + packed_unit * cuda_btc::kUnitScaleBytes);
    to_scales[lane] = row < n_rows ? scales[row * n_groups + group] : uint16_t{0};
  }
}

}  // namespace

cudaError_t cuda_pack_btc_rows(const CudaLaunch& where, const int8_t* codes, const uint16_t* scales,
                               int64_t row_begin, int64_t n_rows, int64_t /*N*/, int64_t K,
                               uint8_t* packed_codes, uint8_t* packed_scales) {
  const int64_t n_units = cuda_btc::n_blocks(n_rows) * cuda_btc::n_groups(K);
  if (n_units == 0) return cudaSuccess;
  const bool aligned = (reinterpret_cast<uintptr_t>(codes) | static_cast<uint64_t>(K)) % 16 == 0;
  const dim3 grid(static_cast<unsigned>((n_units + kWarps - 1) / kWarps));
  return launch(where, pack_btc, grid, dim3(kWarps * 32), 0, codes, scales,
                row_begin / cuda_btc::kUnitRows, n_units, n_rows, K, aligned, packed_codes,
                packed_scales);
}

}  // namespace flexq
