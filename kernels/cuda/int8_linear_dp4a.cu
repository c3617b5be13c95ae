// out[t, n] = sum over groups g ascending of fma((float)dot(t, n, g), sx[t, g] * sw[n, g], acc)
// with byte dot products, for GPUs without mma.m16n8k32.
//
// Grid: (ceil(row blocks / kWarps), ceil(n_tokens / kTokens)). A warp walks the groups of one block
// of 16 rows for kTokens tokens, weights straight from memory in the tensor cores' order: a lane
// has 32 columns of rows lane / 4 and lane / 4 + 8, and the four lanes of a row add their integers.
#include "kernels/cuda/int8_linear_dp4a.h"
#include "kernels/cuda/int8_unit.cuh"

namespace flexq {
namespace {

using cuda_int8::kGroupSize;
using cuda_int8::kUnitRows;

constexpr int32_t kWarps = 4;
constexpr int32_t kTokens = 4;

// Adds the four lanes that share a row.
__device__ int32_t quad_sum(int32_t value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

template <int kBits>
__global__ void __launch_bounds__(kWarps * 32) dp4a_kernel(const Int8LinearArgs args) {
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  const auto block = static_cast<int32_t>(blockIdx.x * kWarps + threadIdx.x / 32);
  if (block >= cuda_int8::n_blocks(args.n_rows)) return;
  const auto first_token = static_cast<int32_t>(blockIdx.y) * kTokens;
  const int64_t n_groups = args.n_groups;
  const uint8_t* unit = args.codes + block * n_groups * cuda_int8::unit_bytes(kBits);
  const uint16_t* scales = args.scales + block * n_groups * kUnitRows + lane / 4;

  float acc[kTokens][2] = {};
  for (int64_t group = 0; group < n_groups; ++group) {
    uint32_t a[16];
    load_unit<kBits>(unit, lane, a);
    const float scale0 = weight_scale(scales[0], args.multiplier);
    const float scale1 = weight_scale(scales[8], args.multiplier);
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      const int64_t token = min(first_token + i, args.n_tokens - 1);
      const auto* x = reinterpret_cast<const uint4*>(
          args.x_codes + (token * n_groups + group) * kGroupSize + lane % 4 * 32);
      const uint4 low = __ldg(x);
      const uint4 high = __ldg(x + 1);
      const uint32_t b[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      int32_t dot0 = 0;
      int32_t dot1 = 0;
#pragma unroll
      for (int word = 0; word < 8; ++word) {
        const int reg = word / 2 * 4 + word % 2 * 2;
        dot0 = __dp4a(static_cast<int>(a[reg]), static_cast<int>(b[word]), dot0);
        dot1 = __dp4a(static_cast<int>(a[reg + 1]), static_cast<int>(b[word]), dot1);
      }
      const float x_scale = args.x_scales[token * n_groups + group];
      acc[i][0] = add_group(acc[i][0], static_cast<float>(quad_sum(dot0)), x_scale, scale0);
      acc[i][1] = add_group(acc[i][1], static_cast<float>(quad_sum(dot1)), x_scale, scale1);
    }
    unit += cuda_int8::unit_bytes(kBits);
    scales += kUnitRows;
  }

  const int32_t row = block * static_cast<int32_t>(kUnitRows) + lane / 4;
  if (lane % 4 != 0) return;
#pragma unroll
  for (int i = 0; i < kTokens; ++i) {
    const int32_t token = first_token + i;
    if (token >= args.n_tokens) return;
    if (row < args.n_rows) store_output(args, token, row, acc[i][0]);
    if (row + 8 < args.n_rows) store_output(args, token, row + 8, acc[i][1]);
  }
}

}  // namespace

cudaError_t int8_linear_dp4a(const CudaLaunch& where, const Int8LinearArgs& args,
                             int32_t weight_bits) {
  const auto n_blocks = static_cast<uint32_t>(cuda_int8::n_blocks(args.n_rows));
  const auto n_tokens = static_cast<uint32_t>(args.n_tokens);
  const dim3 grid((n_blocks + kWarps - 1) / kWarps, (n_tokens + kTokens - 1) / kTokens);
  if (weight_bits == 6) return launch(where, dp4a_kernel<6>, grid, dim3(kWarps * 32), 0, args);
  return launch(where, dp4a_kernel<8>, grid, dim3(kWarps * 32), 0, args);
}

}  // namespace flexq
