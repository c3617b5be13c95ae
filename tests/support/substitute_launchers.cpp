// The launchers of cuda_kernels.h and benchmark_kernels.h without kernels, for builds that compile
// none (sanitizers): each makes the calls that a kernel needs, and sizes grow with the shapes as
// the real ones do.
#include "kernels/cuda/benchmark_kernels.h"
#include "kernels/cuda/cuda_kernels.h"

namespace flexq {
namespace {

void no_kernel(int32_t) {}

cudaError_t launch_once(const CudaLaunch& where) {
  return launch(where, &no_kernel, dim3(1), dim3(32), 0, 0);
}
// A kernel with much shared memory.
cudaError_t launch_large(const CudaLaunch& where) {
  return launch(where, &no_kernel, dim3(1), dim3(32), 100 * 1024, 0);
}

}  // namespace

cudaError_t cuda_embed(const CudaLaunch& launch, const CudaMatrix&, const int32_t*, int64_t,
                       CudaRows) {
  return launch_once(launch);
}
cudaError_t cuda_rms_norm(const CudaLaunch& launch, CudaRows, const int32_t*, const float*, int64_t,
                          float, int64_t, CudaRows, int32_t*) {
  return launch_once(launch);
}
cudaError_t cuda_rms_norm_quantize(const CudaLaunch& launch, CudaRows, const float*, int64_t, float,
                                   int32_t, int64_t, CudaQuantized) {
  return launch_once(launch);
}
cudaError_t cuda_quantize(const CudaLaunch& launch, CudaRows, int64_t, int32_t, int64_t,
                          CudaQuantized) {
  return launch_once(launch);
}
cudaError_t cuda_silu_mul(const CudaLaunch& launch, CudaRows, CudaRows, int64_t, int64_t) {
  return launch_once(launch);
}
cudaError_t cuda_silu_mul_quantize(const CudaLaunch& launch, CudaRows, CudaRows, int64_t, int32_t,
                                   int64_t, CudaQuantized) {
  return launch_once(launch);
}
int32_t cuda_k_slices(int64_t, int64_t) {
  return 1;
}
cudaError_t cuda_linear_int(const CudaLaunch& launch, std::span<const CudaLinearPart>,
                            CudaQuantized, int32_t, int64_t, CudaStore, uint8_t*) {
  return launch_large(launch);
}
cudaError_t cuda_linear_fused(const CudaLaunch& launch, std::span<const CudaLinearPart>,
                              const CudaSource&, int32_t, CudaStore) {
  return launch_large(launch);
}
cudaError_t cuda_linear_fused(const CudaLaunch& launch, std::span<const CudaLinearPart>,
                              const CudaQuantized&, int64_t, CudaStore) {
  return launch_large(launch);
}
cudaError_t cuda_linear_int_with(const CudaLaunch& launch, const LinearConfig&,
                                 const CudaLinearPart&, CudaQuantized, int32_t, int64_t, uint8_t*) {
  return launch_large(launch);
}
int64_t cuda_linear_int_scratch_bytes(int64_t, int64_t n_cols, int64_t n_tokens) {
  return n_tokens * n_cols;
}
cudaError_t cuda_linear_float(const CudaLaunch& launch, const CudaMatrix&, CudaRows, int64_t,
                              const float*, CudaStore, CudaRows, int32_t*) {
  const cudaError_t error = launch_large(launch);
  return error != cudaSuccess ? error : launch_once(launch);
}
cudaError_t cuda_rope_store(const CudaLaunch& launch, const CudaBatch&, const CudaKv&, int32_t,
                            CudaRows, CudaRows, CudaRows) {
  return launch_once(launch);
}
cudaError_t cuda_attention(const CudaLaunch& launch, const CudaBatch&, const CudaKv&, int32_t,
                           CudaRows, CudaRows, uint8_t*) {
  return launch_once(launch);
}
cudaError_t cuda_decode_attention(const CudaLaunch& launch, const CudaBatch&, const CudaKv&,
                                  int32_t, CudaRows, CudaRows, CudaRows, CudaRows, uint8_t*) {
  return launch_large(launch);
}
int64_t cuda_attention_scratch_bytes(int32_t n_heads, int32_t head_dim, int64_t n_tokens,
                                     int64_t context_tokens) {
  return n_heads * head_dim * n_tokens * (context_tokens / 256 + 1) * 4;
}
cudaError_t cuda_find_nonfinite(const CudaLaunch& launch, std::span<const CudaRowsOfWidth>, int64_t,
                                int32_t*) {
  return launch_once(launch);
}
cudaError_t cuda_log_probs(const CudaLaunch& launch, CudaRows, int64_t, const int32_t*, int64_t,
                           float*) {
  return launch_once(launch);
}
cudaError_t cuda_sample(const CudaLaunch& launch, CudaRows, int64_t, std::span<const CudaSampling>,
                        CudaSample*, uint8_t*) {
  return launch_once(launch);
}
int64_t cuda_sample_scratch_bytes(int64_t n_vocab, int64_t n_rows) {
  return n_vocab * n_rows * 8;
}
cudaError_t cuda_pack_rows(const CudaLaunch& launch, WeightFormat, CudaFamily, const int8_t*,
                           const uint16_t*, int64_t, int64_t, int64_t, int64_t, uint8_t*,
                           uint8_t*) {
  return launch_once(launch);
}

cudaError_t cuda_read_only(const CudaLaunch& launch, const void*, int64_t, int32_t, uint32_t*) {
  return launch_once(launch);
}
cudaError_t cuda_fill_random(const CudaLaunch& launch, CudaRandom, uint32_t, void*, int64_t) {
  return launch_once(launch);
}
cudaError_t cuda_dequantize(const CudaLaunch& launch, const int32_t*, const float*, const float*,
                            int64_t, int64_t, uint16_t*) {
  return launch_once(launch);
}

}  // namespace flexq
