// Everything between two linear layers that works on rows of one token: embedding, RMSNorm, SiLU
// and quantization. Quantized codes and scales are the CPU's integers and bits for the same fp32
// input: every operation of a quantizer is one IEEE operation, written as such.
//
// Rows are read in quads of 4 consecutive floats. A warp of quads is one quantization group of 128,
// so a group's maximum is one reduction of a warp, and its codes leave as 128 consecutive bytes.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/silu.cuh"
#include "kernels/layout/cuda_int8_layout.h"

namespace flexq {
namespace {

constexpr int32_t kQuad = 4;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr float kSmallestScale = 1e-5f;

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

// Values [first, first + 4) of n, zeros past n.
__device__ float4 load_quad(const float* values, int64_t first, int64_t n, bool aligned) {
  if (aligned && first + kQuad <= n) return *reinterpret_cast<const float4*>(values + first);
  float4 quad = make_float4(0, 0, 0, 0);
  if (first < n) quad.x = values[first];
  if (first + 1 < n) quad.y = values[first + 1];
  if (first + 2 < n) quad.z = values[first + 2];
  if (first + 3 < n) quad.w = values[first + 3];
  return quad;
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

// --- the quantizer -------------------------------------------------------------------------------

__device__ uint32_t warp_max(uint32_t value) {
#if __CUDA_ARCH__ >= 800
  return __reduce_max_sync(kAllLanes, value);
#else
  for (int offset = 16; offset > 0; offset /= 2)
    value = max(value, __shfl_xor_sync(kAllLanes, value, offset));
  return value;
#endif
}

__device__ uint32_t magnitude_bits(float value) {
  return __float_as_uint(value) & 0x7fffffffu;
}

// The low byte of the code of one value.
__device__ uint32_t quantize_value(float value, float scale, int32_t code_max) {
  const int32_t code = __float2int_rn(__fdiv_rn(value, scale));
  return static_cast<uint32_t>(min(max(code, -code_max - 1), code_max)) & 0xffu;
}

// Quantizes a group of 128, a quad per lane, values past the row's end being 0: scale = max(max|x|
// / code_max, 1e-5), code = clamp(round_half_even(x / scale)). A group that is not finite gets
// codes 0 and scale NaN. All lanes of the warp call it.
__device__ void quantize_group(float4 quad, int32_t code_max, int64_t token, int64_t n_tokens,
                               int64_t group, int64_t n_groups, const CudaQuantized& out) {
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  const uint32_t own = max(max(magnitude_bits(quad.x), magnitude_bits(quad.y)),
                           max(magnitude_bits(quad.z), magnitude_bits(quad.w)));
  const uint32_t max_bits = warp_max(own);
  uint32_t word = 0;
  float scale = __uint_as_float(0x7fc00000u);
  if (max_bits < kInfinityBits) {
    scale =
        fmaxf(__fdiv_rn(__uint_as_float(max_bits), static_cast<float>(code_max)), kSmallestScale);
    word = quantize_value(quad.x, scale, code_max) | quantize_value(quad.y, scale, code_max) << 8 |
           quantize_value(quad.z, scale, code_max) << 16 |
           quantize_value(quad.w, scale, code_max) << 24;
  }
  const bool natural = out.order == CodesOrder::kNatural;
  auto* words = reinterpret_cast<uint32_t*>(out.codes + (token * n_groups + group) * kGroupSize);
  words[natural ? lane : cuda_int8::tensor_word(lane)] = word;
  if (lane == 0) out.scales[natural ? token * n_groups + group : group * n_tokens + token] = scale;
}

constexpr int32_t code_max_of(int32_t bits) {
  return (1 << (bits - 1)) - 1;
}

// --- SiLU ----------------------------------------------------------------------------------------

__device__ float4 silu_times_quad(float4 gate, float4 up) {
  return make_float4(silu_times(gate.x, up.x), silu_times(gate.y, up.y), silu_times(gate.z, up.z),
                     silu_times(gate.w, up.w));
}

// gate[t, i] = silu(gate[t, i]) * up[t, i]. Grid: (n_tokens, ceil(n / 4 / threads)).
constexpr int32_t kRowThreads = 256;

__global__ void __launch_bounds__(kRowThreads) silu_mul_kernel(Rows gate, Rows up, int64_t n) {
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
  const int64_t token = blockIdx.x;
  const int64_t group = int64_t{blockIdx.y} * (kRowThreads / 32) + threadIdx.x / 32;
  if (group >= n_groups) return;
  const int64_t first = group * kGroupSize + threadIdx.x % 32 * kQuad;
  float4 quad = load_quad(x.row(token), first, n, x.aligned);
  if constexpr (kSilu) quad = silu_times_quad(quad, load_quad(up.row(token), first, n, up.aligned));
  quantize_group(quad, code_max, token, gridDim.x, group, n_groups, out);
}

// --- RMSNorm -------------------------------------------------------------------------------------

// Threads of a row: one quad each, as far as a CTA reaches. A function of n alone, because it fixes
// the order of the sum of squares.
int32_t norm_threads(int64_t n) {
  constexpr int64_t kMost = 1024;
  const int64_t threads = divide_up(divide_up(n, kQuad), 32) * 32;
  return static_cast<int32_t>(threads < kMost ? threads : kMost);
}

// The sum over a warp as a tree, the same bits in every lane: a + b is b + a.
__device__ float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2)
    value = __fadd_rn(value, __shfl_xor_sync(kAllLanes, value, offset));
  return value;
}

// 1 / sqrt(mean square + eps) of a row: each thread sums its quads (every blockDim.x-th) in
// ascending order, then a tree over each warp's lanes, then one over the warps. NaN where the sum
// is not finite: without it an overflow would make every output a quiet 0.
__device__ float inverse_rms(const float* row, int64_t n, bool aligned, float eps) {
  __shared__ float warp_sums[32];
  float sum = 0;
  for (int64_t first = int64_t{threadIdx.x} * kQuad; first < n; first += blockDim.x * kQuad) {
    const float4 quad = load_quad(row, first, n, aligned);
    sum = __fmaf_rn(quad.x, quad.x, sum);
    sum = __fmaf_rn(quad.y, quad.y, sum);
    sum = __fmaf_rn(quad.z, quad.z, sum);
    sum = __fmaf_rn(quad.w, quad.w, sum);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  const uint32_t lane = threadIdx.x % 32;
  sum = warp_sum(lane < blockDim.x / 32 ? warp_sums[lane] : 0.0f);
  const float mean_square = __fdiv_rn(sum, static_cast<float>(n));
  const float inverse = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean_square, eps)));
  return __fadd_rn(inverse, __fsub_rn(mean_square, mean_square));
}

__device__ float4 normalize(float4 x, float inverse, float4 weight) {
  return make_float4(
      __fmul_rn(__fmul_rn(x.x, inverse), weight.x), __fmul_rn(__fmul_rn(x.y, inverse), weight.y),
      __fmul_rn(__fmul_rn(x.z, inverse), weight.z), __fmul_rn(__fmul_rn(x.w, inverse), weight.w));
}

// Grid: (n_rows), norm_threads(n) threads.
__global__ void __launch_bounds__(1024)
    rms_norm_kernel(Rows x, const int32_t* rows, const float* weight, bool weight_aligned,
                    int64_t n, float eps, Rows out) {
  const int64_t index = rows == nullptr ? int64_t{blockIdx.x} : rows[blockIdx.x];
  const float* row = x.row(index);
  const float inverse = inverse_rms(row, n, x.aligned, eps);
  for (int64_t first = int64_t{threadIdx.x} * kQuad; first < n; first += blockDim.x * kQuad) {
    const float4 quad = load_quad(row, first, n, x.aligned);
    const float4 factor = load_quad(weight, first, n, weight_aligned);
    store_quad(out.row(blockIdx.x), first, n, out.aligned, normalize(quad, inverse, factor));
  }
}

// Grid: (n_tokens), norm_threads(n) threads.
__global__ void __launch_bounds__(1024)
    rms_norm_quantize_kernel(Rows x, const float* weight, bool weight_aligned, int64_t n, float eps,
                             int32_t code_max, int64_t n_groups, CudaQuantized out) {
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
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    embed_kernel(const T* table, const float* scales, int64_t table_stride, const int32_t* tokens,
                 int64_t n_embd, Rows x) {
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
                          const float* weight, int64_t n, float eps, int64_t n_rows, CudaRows out) {
  return launch(where, rms_norm_kernel, dim3(static_cast<uint32_t>(n_rows)), dim3(norm_threads(n)),
                0, rows_of(x), rows, weight, is_aligned(weight), n, eps, rows_of(out));
}

cudaError_t cuda_rms_norm_quantize(const CudaLaunch& where, CudaRows x, const float* weight,
                                   int64_t n, float eps, int32_t bits, int64_t n_tokens,
                                   CudaQuantized out) {
  return launch(where, rms_norm_quantize_kernel, dim3(static_cast<uint32_t>(n_tokens)),
                dim3(norm_threads(n)), 0, rows_of(x), weight, is_aligned(weight), n, eps,
                code_max_of(bits), divide_up(n, kGroupSize), out);
}

cudaError_t cuda_quantize(const CudaLaunch& where, CudaRows x, int64_t n, int32_t bits,
                          int64_t n_tokens, CudaQuantized out) {
  return launch(where, quantize_kernel<false>, row_grid(n_tokens, n), dim3(kRowThreads), 0,
                rows_of(x), Rows{}, n, code_max_of(bits), divide_up(n, kGroupSize), out);
}

cudaError_t cuda_silu_mul(const CudaLaunch& where, CudaRows gate, CudaRows up, int64_t n,
                          int64_t n_tokens) {
  return launch(where, silu_mul_kernel, row_grid(n_tokens, n), dim3(kRowThreads), 0, rows_of(gate),
                rows_of(up), n);
}

cudaError_t cuda_silu_mul_quantize(const CudaLaunch& where, CudaRows gate, CudaRows up, int64_t n,
                                   int32_t bits, int64_t n_tokens, CudaQuantized out) {
  return launch(where, quantize_kernel<true>, row_grid(n_tokens, n), dim3(kRowThreads), 0,
                rows_of(gate), rows_of(up), n, code_max_of(bits), divide_up(n, kGroupSize), out);
}

}  // namespace flexq
