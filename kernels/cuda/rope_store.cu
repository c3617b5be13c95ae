// Rotary position embedding of q, and of k on its way into the paged cache with v.
#include <cuda_fp16.h>

#include "kernels/cuda/cuda_kernels.h"

namespace flexq {
namespace {

constexpr int kWarpsPerCta = 4;
constexpr uint32_t kInfinityBits = 0x7f800000u;

struct RopeStoreArgs {
  CudaBatch batch;
  CudaKv kv;
  int32_t n_heads;
  CudaRows q;
  CudaRows k;
  CudaRows v;
};

// Element i of a rotated row, products rounded separately as on the CPU.
__device__ float rotated(const float* x, const float* cos, const float* sin, int32_t half,
                         int32_t i) {
  const int32_t pair = i < half ? i : i - half;
  const float a = x[pair];
  const float b = x[pair + half];
  return i < half ? __fsub_rn(__fmul_rn(a, cos[pair]), __fmul_rn(b, sin[pair]))
                  : __fadd_rn(__fmul_rn(b, cos[pair]), __fmul_rn(a, sin[pair]));
}

__device__ void rotate_in_place(float* x, const float* cos, const float* sin, int32_t half,
                                int32_t lane) {
  for (int32_t i = lane; i < half; i += 32) {
    const float first = rotated(x, cos, sin, half, i);
    const float second = rotated(x, cos, sin, half, i + half);
    x[i] = first;
    x[i + half] = second;
  }
}

// `element(i)` is element i of the row. The same integers and scale bits as quantize_kv_row of the
// CPU: scale = fp16(max(amax / 127, 1e-5)), code = clamp(round_half_even(x / scale), -127, 127); a
// row with NaN or infinity has codes 0 and scale NaN.
template <typename Element>
__device__ void store_int8(const Element& element, int32_t head_dim, int8_t* codes, uint16_t* scale,
                           int32_t lane) {
  uint32_t amax_bits = 0;
  for (int32_t i = lane; i < head_dim; i += 32)
    amax_bits = max(amax_bits, __float_as_uint(element(i)) & 0x7fffffffu);
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2)
    amax_bits = max(amax_bits, __shfl_xor_sync(~0u, amax_bits, mask));
  const bool finite = amax_bits < kInfinityBits;
  const __half scale_half =
      __float2half_rn(fmaxf(__fdiv_rn(__uint_as_float(amax_bits), 127.0f), 1e-5f));
  const float row_scale = __half2float(scale_half);
  for (int32_t i = lane; i < head_dim; i += 32) {
    // Rounding after the clamp gives the same integer: both bounds are integers.
    const float code = fminf(fmaxf(__fdiv_rn(element(i), row_scale), -127.0f), 127.0f);
    codes[i] = finite ? static_cast<int8_t>(__float2int_rn(code)) : int8_t{0};
  }
  if (lane == 0) *scale = finite ? __half_raw(scale_half).x : uint16_t{0x7e00};
}

template <typename Element>
__device__ void store_row(const CudaKv& kv, const Element& element, int32_t slot_in_page,
                          uint8_t* head, int32_t lane) {
  if (kv.int8) {
    auto* scales = reinterpret_cast<uint16_t*>(head + int64_t{kv.page_tokens} * kv.head_dim);
    store_int8(element, kv.head_dim,
               reinterpret_cast<int8_t*>(head) + int64_t{slot_in_page} * kv.head_dim,
               scales + slot_in_page, lane);
  } else {
    auto* row = reinterpret_cast<__half*>(head) + int64_t{slot_in_page} * kv.head_dim;
    for (int32_t i = lane; i < kv.head_dim; i += 32)
      row[i] = __float2half_rn(element(i));
  }
}

// Grid: (n_tokens, ceil((n_heads + 2 * n_kv_heads) / 4)), 128 threads; a warp takes one head of q,
// k or v of one token. k itself is left unrotated.
__global__ void __launch_bounds__(kWarpsPerCta * 32) rope_store(const RopeStoreArgs args) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  const int64_t token = blockIdx.x;
  const int32_t slot =
      static_cast<int32_t>(blockIdx.y) * kWarpsPerCta + static_cast<int32_t>(threadIdx.x) / 32;
  const CudaKv& kv = args.kv;
  const int32_t half = kv.head_dim / 2;
  const float* cos = args.batch.cos + token * half;
  const float* sin = args.batch.sin + token * half;
  if (slot < args.n_heads) {
    rotate_in_place(args.q.data + token * args.q.stride + int64_t{slot} * kv.head_dim, cos, sin,
                    half, lane);
    return;
  }
  const int32_t kv_slot = slot - args.n_heads;
  if (kv_slot >= 2 * kv.n_kv_heads) return;
  const int32_t position = args.batch.positions[token];
  const int64_t table_row = int64_t{args.batch.sequences[token]} * kv.pages_per_sequence;
  const int64_t page = kv.block_tables[table_row + position / kv.page_tokens];
  // V follows all heads of K, so kv_slot counts on through both.
  uint8_t* head = kv.pages + page * kv.page_bytes + kv.layer_offset + kv_slot * kv.head_bytes;
  const int32_t slot_in_page = position % kv.page_tokens;
  if (kv_slot < kv.n_kv_heads) {
    const float* k = args.k.data + token * args.k.stride + int64_t{kv_slot} * kv.head_dim;
    store_row(
        kv, [=](int32_t i) { return rotated(k, cos, sin, half, i); }, slot_in_page, head, lane);
  } else {
    const float* v =
        args.v.data + token * args.v.stride + int64_t{kv_slot - kv.n_kv_heads} * kv.head_dim;
    store_row(
        kv, [=](int32_t i) { return v[i]; }, slot_in_page, head, lane);
  }
}

}  // namespace

cudaError_t cuda_rope_store(const CudaLaunch& where, const CudaBatch& batch, const CudaKv& kv,
                            int32_t n_heads, CudaRows q, CudaRows k, CudaRows v) {
  const int32_t slots = n_heads + 2 * kv.n_kv_heads;
  const dim3 grid(static_cast<unsigned>(batch.n_tokens),
                  static_cast<unsigned>((slots + kWarpsPerCta - 1) / kWarpsPerCta));
  return launch(where, rope_store, grid, dim3(kWarpsPerCta * 32), 0,
                RopeStoreArgs{batch, kv, n_heads, q, k, v});
}

}  // namespace flexq
