// cuda_linear_int: takes select_linear()'s word and calls that kernel.
#include "kernels/cuda/btc_kernels.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/int8_linear_decode.h"
#include "kernels/cuda/int8_linear_dp4a.h"
#include "kernels/cuda/int8_linear_prefill.h"
#include "kernels/cuda/int8_linear_wgmma.h"
#include "kernels/cuda/linear_select.h"

namespace flexq {
namespace {

// A part by a kernel that knows one matrix. store: kSet or kAdd.
cudaError_t multiply_part(const CudaLaunch& launch, const LinearConfig& config,
                          const CudaLinearPart& part, CudaQuantized x, int32_t bits,
                          int64_t n_tokens, CudaStore store, uint8_t* scratch) {
  const CudaMatrix& w = part.w;
  if (config.kernel == LinearKernel::kBinary)
    return cuda_linear_btc(launch, w, x, bits, n_tokens, part.bias, store, part.out, scratch);

  const int32_t w_bits = weight_bits(w.format);
  Int8LinearArgs args;
  args.codes = w.values;
  args.scales = reinterpret_cast<const uint16_t*>(w.scales);
  args.x_codes = x.codes;
  args.x_scales = x.scales;
  args.bias = part.bias;
  args.out = part.out.data;
  args.out_stride = part.out.stride;
  // 6-bit codes enter the products as 4 * q; a quarter of a power of two is exact.
  args.multiplier = w_bits == 6 ? w.scale_multiplier * 0.25f : w.scale_multiplier;
  args.n_rows = static_cast<int32_t>(w.rows);
  args.n_groups = static_cast<int32_t>(cuda_int8::n_groups(w.cols));
  args.n_tokens = static_cast<int32_t>(n_tokens);
  args.store = store;
  switch (config.kernel) {
    case LinearKernel::kInt8Decode:
      return int8_linear_decode(launch, args, w_bits, config.n_stages, config.resident);
    case LinearKernel::kInt8Prefill:
      return int8_linear_prefill(launch, args, w_bits, config.tile);
    default:
      return int8_linear_dp4a(launch, args, w_bits);
  }
}

bool is_joint(std::span<const CudaLinearPart> parts, CudaStore store) {
  if (parts.empty() || parts.size() > kMaxLinearParts) return false;
  const CudaMatrix& first = parts.front().w;
  if (!is_grouped(first.format)) return false;
  for (const CudaLinearPart& part : parts) {
    if (part.w.cols != first.cols || part.w.format != first.format || part.w.family != first.family)
      return false;
  }
  return store != CudaStore::kSiluMul || (parts.size() == 2 && parts[1].w.rows == first.rows);
}

}  // namespace

int32_t cuda_k_slices(int64_t n_rows, int64_t n_cols) {
  return k_slices(n_rows, n_cols);
}

cudaError_t cuda_linear_int(const CudaLaunch& launch, std::span<const CudaLinearPart> parts,
                            CudaQuantized x, int32_t bits, int64_t n_tokens, CudaStore store,
                            uint8_t* scratch) {
  if (!is_joint(parts, store)) return cudaErrorInvalidValue;
  const LinearProblem problem = linear_problem(launch, parts, n_tokens, store);
  if (x.order != codes_order(problem)) return cudaErrorInvalidValue;
  const LinearConfig config = select_linear(problem);
  if (config.kernel == LinearKernel::kInt8Wgmma)
    return int8_linear_wgmma(launch, parts, x, n_tokens, store, config.wgmma);
  const CudaStore each = store == CudaStore::kAdd ? CudaStore::kAdd : CudaStore::kSet;
  for (const CudaLinearPart& part : parts) {
    const LinearConfig own = select_linear(linear_problem(launch, {&part, 1}, n_tokens, each));
    const cudaError_t error = multiply_part(launch, own, part, x, bits, n_tokens, each, scratch);
    if (error != cudaSuccess) return error;
  }
  if (store != CudaStore::kSiluMul) return cudaSuccess;
  return cuda_silu_mul(launch, parts[0].out, parts[1].out, parts[0].w.rows, n_tokens);
}

cudaError_t cuda_linear_int_with(const CudaLaunch& launch, const LinearConfig& config,
                                 const CudaLinearPart& part, CudaQuantized x, int32_t bits,
                                 int64_t n_tokens, uint8_t* scratch) {
  if (!is_joint({&part, 1}, CudaStore::kSet)) return cudaErrorInvalidValue;
  if (config.kernel == LinearKernel::kInt8Wgmma)
    return int8_linear_wgmma(launch, {&part, 1}, x, n_tokens, CudaStore::kSet, config.wgmma);
  return multiply_part(launch, config, part, x, bits, n_tokens, CudaStore::kSet, scratch);
}

int64_t cuda_linear_int_scratch_bytes(int64_t n_rows, int64_t n_cols, int64_t n_tokens) {
  return cuda_linear_btc_scratch_bytes(n_rows, n_cols, n_tokens);  // the INT8 kernels need none
}

}  // namespace flexq
