// Rotary position embedding of q, and of k on its way into the paged cache with v.
#include "kernels/cuda/kv_rows.cuh"
#include "kernels/cuda/programmatic_launch.cuh"

namespace flexq {
namespace {

constexpr int kWarpsPerCta = 4;

struct RopeStoreArgs {
  CudaBatch batch;
  CudaKv kv;
  int32_t n_heads;
  CudaRows q;
  CudaRows k;
  CudaRows v;
};

// Whether the rows of a head can be taken two neighbouring elements at a time.
__device__ inline bool goes_in_twos(const float* x, int32_t half) {
  return half % 2 == 0 && reinterpret_cast<uintptr_t>(x) % sizeof(float2) == 0;
}

__device__ inline float2 load_two(const float* x) {
  return *reinterpret_cast<const float2*>(x);
}

// Elements i and i + 1 of a rotated row, and i + half and the next, as rotated() has them.
struct RotatedTwos {
  float2 low;
  float2 high;

  __device__ RotatedTwos(const float* x, const float* cos, const float* sin, int32_t half,
                         int32_t i) {
    const float2 a = load_two(x + i);
    const float2 b = load_two(x + i + half);
    const float2 c = load_two(cos + i);
    const float2 s = load_two(sin + i);
    low = make_float2(__fsub_rn(__fmul_rn(a.x, c.x), __fmul_rn(b.x, s.x)),
                      __fsub_rn(__fmul_rn(a.y, c.y), __fmul_rn(b.y, s.y)));
    high = make_float2(__fadd_rn(__fmul_rn(b.x, c.x), __fmul_rn(a.x, s.x)),
                       __fadd_rn(__fmul_rn(b.y, c.y), __fmul_rn(a.y, s.y)));
  }
};

__device__ void rotate_in_place(float* x, const float* cos, const float* sin, int32_t half,
                                int32_t lane) {
  if (goes_in_twos(x, half)) {
    for (int32_t i = lane * 2; i < half; i += 64) {
      const RotatedTwos twos(x, cos, sin, half, i);
      *reinterpret_cast<float2*>(x + i) = twos.low;
      *reinterpret_cast<float2*>(x + i + half) = twos.high;
    }
    return;
  }
  for (int32_t i = lane; i < half; i += 32) {
    const float first = rotated(x, cos, sin, half, i);
    const float second = rotated(x, cos, sin, half, i + half);
    x[i] = first;
    x[i + half] = second;
  }
}

__device__ void store_key(const RopeStoreArgs& args, const float* k, const float* cos,
                          const float* sin, int32_t slot_in_page, uint8_t* head, int32_t lane) {
  const int32_t half = args.kv.head_dim / 2;
  if (args.kv.int8 || !goes_in_twos(k, half)) {
    store_row(
        args.kv, [=](int32_t i) { return rotated(k, cos, sin, half, i); }, slot_in_page, head,
        lane);
    return;
  }
  auto* row = reinterpret_cast<__half*>(head) + int64_t{slot_in_page} * args.kv.head_dim;
  for (int32_t i = lane * 2; i < half; i += 64) {
    const RotatedTwos twos(k, cos, sin, half, i);
    *reinterpret_cast<__half2*>(row + i) = __float22half2_rn(twos.low);
    *reinterpret_cast<__half2*>(row + i + half) = __float22half2_rn(twos.high);
  }
}

__device__ void store_value(const RopeStoreArgs& args, const float* v, int32_t slot_in_page,
                            uint8_t* head, int32_t lane) {
  if (args.kv.int8 || !goes_in_twos(v, args.kv.head_dim / 2)) {
    store_row(
        args.kv, [=](int32_t i) { return v[i]; }, slot_in_page, head, lane);
    return;
  }
  auto* row = reinterpret_cast<__half*>(head) + int64_t{slot_in_page} * args.kv.head_dim;
  for (int32_t i = lane * 2; i < args.kv.head_dim; i += 64)
    *reinterpret_cast<__half2*>(row + i) = __float22half2_rn(load_two(v + i));
}

// Grid: (n_tokens, ceil((n_heads + 2 * n_kv_heads) / 4)), 128 threads; a warp takes one head of q,
// k or v of one token. k itself is left unrotated.
__global__ void __launch_bounds__(kWarpsPerCta * 32) rope_store(const RopeStoreArgs args) {
  take_turn();
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
  const int32_t* table = kv.block_tables + args.batch.sequences[token] * kv.pages_per_sequence;
  uint8_t* head = kv_head_in_page(kv, table, position, kv_slot);
  const int32_t slot_in_page = position % kv.page_tokens;
  if (kv_slot < kv.n_kv_heads) {
    const float* k = args.k.data + token * args.k.stride + int64_t{kv_slot} * kv.head_dim;
    store_key(args, k, cos, sin, slot_in_page, head, lane);
  } else {
    const float* v =
        args.v.data + token * args.v.stride + int64_t{kv_slot - kv.n_kv_heads} * kv.head_dim;
    store_value(args, v, slot_in_page, head, lane);
  }
}

}  // namespace

cudaError_t cuda_rope_store(const CudaLaunch& where, const CudaBatch& batch, const CudaKv& kv,
                            int32_t n_heads, CudaRows q, CudaRows k, CudaRows v) {
  const int32_t slots = n_heads + 2 * kv.n_kv_heads;
  const dim3 grid(static_cast<unsigned>(batch.n_tokens),
                  static_cast<unsigned>((slots + kWarpsPerCta - 1) / kWarpsPerCta));
  return launch_overlapping(where, rope_store, grid, dim3(kWarpsPerCta * 32), 0,
                            RopeStoreArgs{batch, kv, n_heads, q, k, v});
}

}  // namespace flexq
