// Everything between two linear layers that works on rows of one token: embedding, RMSNorm, SiLU
// and quantization. Quantized codes and scales are the CPU's integers and bits for the same fp32
// input: every operation of a quantizer is one IEEE operation, written as such.
//
// Rows are read in quads of 4 consecutive floats. A warp of quads is one quantization group of 128,
// so a group's maximum is one reduction of a warp, and its codes leave as 128 consecutive bytes.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/programmatic_launch.cuh"
#include "kernels/cuda/row_quantizer.cuh"
#include "kernels/cuda/silu.cuh"

namespace flexq {
namespace {

constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// A row-major fp32 matrix; `aligned`: every row starts on 16 bytes.
struct Rows {
  float* data;
  int64_t stride;
  bool aligned;

  __device__ float* row(int64_t index) const { return data + index * stride; }
};

bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

Rows rows_of(CudaRows rows) {
  return {rows.data, rows.stride, is_aligned(rows.data) && rows.stride % kQuad == 0};
}

__device__ void store_quad(float* values, int64_t first, int64_t n, bool aligned, float4 quad) {
  if (aligned && first + kQuad <= n) {
    *reinterpret_cast<float4*>(values + first) = quad;
    return;
  }
  if (first < n) values[first] = quad.x;
  if (first + 1 < n) values[first + 1] = quad.y;
  if (first + 2 < n) values[first + 2] = quad.z;
  if (first + 3 < n) values[first + 3] = quad.w;
}

// --- SiLU ----------------------------------------------------------------------------------------

__device__ float4 silu_times_quad(float4 gate, float4 up) {
  return make_float4(silu_times(gate.x, up.x), silu_times(gate.y, up.y), silu_times(gate.z, up.z),
                     silu_times(gate.w, up.w));
}

// gate[t, i] = silu(gate[t, i]) * up[t, i]. Grid: (n_tokens, ceil(n / 4 / threads)).
constexpr int32_t kRowThreads = 256;

__global__ void __launch_bounds__(kRowThreads) silu_mul_kernel(Rows gate, Rows up, int64_t n) {
  take_turn();
  const int64_t first = (int64_t{blockIdx.y} * kRowThreads + threadIdx.x) * kQuad;
  if (first >= n) return;
  float* gate_row = gate.row(blockIdx.x);
  const float4 result = silu_times_quad(load_quad(gate_row, first, n, gate.aligned),
                                        load_quad(up.row(blockIdx.x), first, n, up.aligned));
  store_quad(gate_row, first, n, gate.aligned, result);
}

// codes and scales of x[t], or of silu(x[t]) * up[t] where `kSilu`. A warp per group. Grid:
// (n_tokens, ceil(n_groups / warps)).
template <bool kSilu>
__global__ void __launch_bounds__(kRowThreads)
    quantize_kernel(Rows x, Rows up, int64_t n, int32_t code_max, int64_t n_groups,
                    CudaQuantized out) {
  take_turn();
  const int64_t token = blockIdx.x;
  const int64_t group = int64_t{blockIdx.y} * (kRowThreads / 32) + threadIdx.x / 32;
  if (group >= n_groups) return;
  const int64_t first = group * kGroupSize + threadIdx.x % 32 * kQuad;
  float4 quad = load_quad(x.row(token), first, n, x.aligned);
  if constexpr (kSilu) quad = silu_times_quad(quad, load_quad(up.row(token), first, n, up.aligned));
  quantize_group(quad, code_max, token, gridDim.x, group, n_groups, out);
}

// --- RMSNorm -------------------------------------------------------------------------------------

// The inverse root mean square of a row, see inverse_of_sum().
__device__ float inverse_rms(const float* row, int64_t n, bool aligned, float eps) {
  __shared__ float warp_sums[32];
  float sum = 0;
  for (int64_t first = int64_t{threadIdx.x} * kQuad; first < n; first += blockDim.x * kQuad) {
    const float4 quad = load_quad(row, first, n, aligned);
    sum = add_squares(sum, quad);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  const uint32_t lane = threadIdx.x % 32;
  sum = warp_sum(lane < blockDim.x / 32 ? warp_sums[lane] : 0.0f);
  return inverse_of_sum(sum, n, eps);
}

// Grid: (n_rows), norm_threads(n) threads. The kernel after it, a linear layer's, may start at
// once: it fetches weights until this one is done.
__global__ void __launch_bounds__(1024)
    rms_norm_kernel(Rows x, const int32_t* rows, const float* weight, bool weight_aligned,
                    int64_t n, float eps, Rows out, int32_t* nonfinite) {
  let_next_kernel_start();
  const int64_t step = blockDim.x * kQuad;
  int64_t first = int64_t{threadIdx.x} * kQuad;
  float4 factor = load_quad(weight, first, n, weight_aligned);
  wait_for_kernel_before();
  const int64_t index = rows == nullptr ? int64_t{blockIdx.x} : rows[blockIdx.x];
  const float* row = x.row(index);
  const float inverse = inverse_rms(row, n, x.aligned, eps);
  for (; first < n; first += step) {
    const float4 normed = normalize(load_quad(row, first, n, x.aligned), inverse, factor);
    store_quad(out.row(blockIdx.x), first, n, out.aligned, normed);
    if (nonfinite != nullptr && !is_finite(normed)) nonfinite[blockIdx.x] = 1;
    factor = load_quad(weight, first + step, n, weight_aligned);
  }
}

// Grid: (n_tokens), norm_threads(n) threads.
__global__ void __launch_bounds__(1024)
    rms_norm_quantize_kernel(Rows x, const float* weight, bool weight_aligned, int64_t n, float eps,
                             int32_t code_max, int64_t n_groups, CudaQuantized out) {
  take_turn();
  const int64_t token = blockIdx.x;
  const float* row = x.row(token);
  const float inverse = inverse_rms(row, n, x.aligned, eps);
  for (int64_t group = threadIdx.x / 32; group < n_groups; group += blockDim.x / 32) {
    const int64_t first = group * kGroupSize + threadIdx.x % 32 * kQuad;
    const float4 quad = load_quad(row, first, n, x.aligned);
    const float4 factor = load_quad(weight, first, n, weight_aligned);
    quantize_group(normalize(quad, inverse, factor), code_max, token, gridDim.x, group, n_groups,
                   out);
  }
}

// --- embedding -----------------------------------------------------------------------------------

__device__ float to_float(float value) {
  return value;
}
__device__ float to_float(__half value) {
  return __half2float(value);
}
__device__ float to_float(__nv_bfloat16 value) {
  return __bfloat162float(value);
}
__device__ float to_float(int8_t value) {
  return static_cast<float>(value);
}

// x[t] = table[tokens[t]], times scales[tokens[t]] where there are scales. Grid: (n_tokens, any).
// The first kernel of a pass: it does not overlap the pass before.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    embed_kernel(const T* table, const float* scales, int64_t table_stride, const int32_t* tokens,
                 int64_t n_embd, Rows x) {
  let_next_kernel_start();
  const int64_t token = tokens[blockIdx.x];
  const T* row = table + token * table_stride;
  const float scale = scales == nullptr ? 1.0f : scales[token];
  float* out = x.row(blockIdx.x);
  for (int64_t i = int64_t{blockIdx.y} * kRowThreads + threadIdx.x; i < n_embd;
       i += int64_t{gridDim.y} * kRowThreads)
    out[i] = __fmul_rn(to_float(row[i]), scale);
}

template <typename T>
cudaError_t launch_embed(const CudaLaunch& where, const CudaMatrix& embedding,
                         const int32_t* tokens, int64_t n_tokens, CudaRows x) {
  const bool scaled = embedding.format == WeightFormat::kInt8Row;
  const dim3 grid(static_cast<uint32_t>(n_tokens),
                  static_cast<uint32_t>(divide_up(embedding.cols, kRowThreads * kQuad)));
  return launch(where, embed_kernel<T>, grid, dim3(kRowThreads), 0,
                reinterpret_cast<const T*>(embedding.values),
                scaled ? reinterpret_cast<const float*>(embedding.scales) : nullptr,
                cuda_padded_cols(embedding.cols), tokens, embedding.cols, rows_of(x));
}

// Quads of `n` values over CTAs of a row.
dim3 row_grid(int64_t n_tokens, int64_t n) {
  return dim3(static_cast<uint32_t>(n_tokens),
              static_cast<uint32_t>(divide_up(n, int64_t{kRowThreads} * kQuad)));
}

}  // namespace

cudaError_t cuda_embed(const CudaLaunch& launch, const CudaMatrix& embedding, const int32_t* tokens,
                       int64_t n_tokens, CudaRows x) {
  switch (embedding.format) {
    case WeightFormat::kF32:
      return launch_embed<float>(launch, embedding, tokens, n_tokens, x);
    case WeightFormat::kF16:
      return launch_embed<__half>(launch, embedding, tokens, n_tokens, x);
    case WeightFormat::kBF16:
      return launch_embed<__nv_bfloat16>(launch, embedding, tokens, n_tokens, x);
    case WeightFormat::kInt8Row:
      return launch_embed<int8_t>(launch, embedding, tokens, n_tokens, x);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t cuda_rms_norm(const CudaLaunch& where, CudaRows x, const int32_t* rows,
                          const float* weight, int64_t n, float eps, int64_t n_rows, CudaRows out,
                          int32_t* nonfinite) {
  return launch_overlapping(where, rms_norm_kernel, dim3(static_cast<uint32_t>(n_rows)),
                            dim3(norm_threads(n)), 0, rows_of(x), rows, weight, is_aligned(weight),
                            n, eps, rows_of(out), nonfinite);
}

cudaError_t cuda_rms_norm_quantize(const CudaLaunch& where, CudaRows x, const float* weight,
                                   int64_t n, float eps, int32_t bits, int64_t n_tokens,
                                   CudaQuantized out) {
  return launch_overlapping(where, rms_norm_quantize_kernel, dim3(static_cast<uint32_t>(n_tokens)),
                            dim3(norm_threads(n)), 0, rows_of(x), weight, is_aligned(weight), n,
                            eps, code_max_of(bits), divide_up(n, kGroupSize), out);
}

cudaError_t cuda_quantize(const CudaLaunch& where, CudaRows x, int64_t n, int32_t bits,
                          int64_t n_tokens, CudaQuantized out) {
  return launch_overlapping(where, quantize_kernel<false>, row_grid(n_tokens, n), dim3(kRowThreads),
                            0, rows_of(x), Rows{}, n, code_max_of(bits), divide_up(n, kGroupSize),
                            out);
}

cudaError_t cuda_silu_mul(const CudaLaunch& where, CudaRows gate, CudaRows up, int64_t n,
                          int64_t n_tokens) {
  return launch_overlapping(where, silu_mul_kernel, row_grid(n_tokens, n), dim3(kRowThreads), 0,
                            rows_of(gate), rows_of(up), n);
}

cudaError_t cuda_silu_mul_quantize(const CudaLaunch& where, CudaRows gate, CudaRows up, int64_t n,
                                   int32_t bits, int64_t n_tokens, CudaQuantized out) {
  return launch_overlapping(where, quantize_kernel<true>, row_grid(n_tokens, n), dim3(kRowThreads),
                            0, rows_of(gate), rows_of(up), n, code_max_of(bits),
                            divide_up(n, kGroupSize), out);
}

}  // namespace flexq
