// cuda_linear_int: takes select_linear()'s word and calls that kernel.
#include "kernels/cuda/btc_kernels.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/int8_linear_decode.h"
#include "kernels/cuda/int8_linear_dp4a.h"
#include "kernels/cuda/int8_linear_prefill.h"
#include "kernels/cuda/linear_select.h"

namespace flexq {

int32_t cuda_k_slices(int64_t n_rows, int64_t n_cols) {
  return k_slices(n_rows, n_cols);
}

cudaError_t cuda_linear_int(const CudaLaunch& launch, const CudaMatrix& w, CudaQuantized x,
                            int32_t bits, int64_t n_tokens, const float* bias, CudaStore store,
                            CudaRows out, uint8_t* scratch) {
  if (!is_grouped(w.format)) return cudaErrorInvalidValue;
  const int32_t w_bits = weight_bits(w.format);
  const LinearConfig config = select_linear({.sm = launch.sm,
                                             .n_sms = launch.n_sms,
                                             .family = w.family,
                                             .weight_bits = w_bits,
                                             .n_rows = w.rows,
                                             .n_cols = w.cols,
                                             .n_tokens = n_tokens});
  if (config.kernel == LinearKernel::kBinary)
    return cuda_linear_btc(launch, w, x, bits, n_tokens, bias, store, out, scratch);

  Int8LinearArgs args;
  args.codes = w.values;
  args.scales = reinterpret_cast<const uint16_t*>(w.scales);
  args.x_codes = x.codes;
  args.x_scales = x.scales;
  args.bias = bias;
  args.out = out.data;
  args.out_stride = out.stride;
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

int64_t cuda_linear_int_scratch_bytes(int64_t n_rows, int64_t n_cols, int64_t n_tokens) {
  return cuda_linear_btc_scratch_bytes(n_rows, n_cols, n_tokens);  // the INT8 kernels need none
}

}  // namespace flexq
