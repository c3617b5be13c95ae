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

__device__ void rotate_in_place(float* x, const float* cos, const float* sin, int32_t half,
                                int32_t lane) {
  for (int32_t i = lane; i < half; i += 32) {
    const float first = rotated(x, cos, sin, half, i);
    const float second = rotated(x, cos, sin, half, i + half);
    x[i] = first;
    x[i + half] = second;
  }
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
  return launch_overlapping(where, rope_store, grid, dim3(kWarpsPerCta * 32), 0,
                            RopeStoreArgs{batch, kv, n_heads, q, k, v});
}

}  // namespace flexq
