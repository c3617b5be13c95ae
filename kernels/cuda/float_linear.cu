// Linear layers with fp32 activations on TF32 tensor cores: which kernel serves how many tokens.
#include <algorithm>

#include "kernels/cuda/float_linear_decode.cuh"
#include "kernels/cuda/float_linear_tile.cuh"
#include "kernels/cuda/shared_limit.h"

namespace flexq {
namespace {

using float_linear::LargeTile;
using float_linear::LinearArgs;
using float_linear::NarrowTile;
using float_linear::SmallTile;

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

enum class FloatKernel { kDecode8, kDecode16, kNarrowTile, kSmallTile, kLargeTile };

// All kernels give the same bits: the choice is about time only.
FloatKernel select_float_kernel(const CudaLaunch& launch, int64_t n_rows, int64_t n_tokens) {
  if (n_tokens <= 8) return FloatKernel::kDecode8;
  if (n_tokens <= 16) return FloatKernel::kDecode16;
  if (n_tokens <= 32) return FloatKernel::kNarrowTile;
  const int64_t large_tiles =
      ceil_div(n_rows, LargeTile::kRows) * ceil_div(n_tokens, LargeTile::kTokens);
  // The rings of large tiles take up to 96 KiB; sm_75 has 64.
  const bool large = large_tiles >= launch.n_sms && launch.sm >= 80;
  return large ? FloatKernel::kLargeTile : FloatKernel::kSmallTile;
}

template <WeightFormat kFormat, int kTokenTiles>
cudaError_t launch_decode(const CudaLaunch& where, const LinearArgs& args) {
  using namespace float_linear;
  using Shape = DecodeShape<kFormat, kTokenTiles>;
  const auto n_tokens = static_cast<int>(args.n_tokens);
  const size_t limit = shared_limit_bytes(where.sm);
  int n_warps = kMostDecodeWarps;
  while (n_warps > Shape::kLeastWarps && Shape::shared_bytes(n_warps, n_tokens) > limit)
    n_warps /= 2;
  const size_t shared_bytes = Shape::shared_bytes(n_warps, n_tokens);
  // As many CTAs as are there at a time: registers allow two of 8 warps.
  const auto per_sm =
      static_cast<int64_t>(std::max<size_t>(1, std::min<size_t>(2, limit / shared_bytes)));
  const int64_t ctas = std::min(ceil_div(args.n_rows, Shape::kRows), where.n_sms * per_sm);
  return launch(where, float_linear_decode<kFormat, kTokenTiles>, dim3(static_cast<unsigned>(ctas)),
                dim3(static_cast<unsigned>(n_warps * 32)), shared_bytes, args);
}

template <WeightFormat kFormat, typename T>
cudaError_t launch_tile(const CudaLaunch& where, const LinearArgs& args) {
  const dim3 grid(static_cast<unsigned>(ceil_div(args.n_tokens, T::kTokens)),
                  static_cast<unsigned>(ceil_div(args.n_rows, T::kRows)));
  constexpr size_t kSharedBytes = size_t{T::kRing} * float_linear::kTileStageBytes<T, kFormat>;
  return launch(where, float_linear::float_linear_tile<kFormat, T>, grid, dim3(T::kThreads),
                kSharedBytes, args);
}

template <WeightFormat kFormat>
cudaError_t launch_format(const CudaLaunch& where, const LinearArgs& args) {
  switch (select_float_kernel(where, args.n_rows, args.n_tokens)) {
    case FloatKernel::kDecode8:
      return launch_decode<kFormat, 1>(where, args);
    case FloatKernel::kDecode16:
      return launch_decode<kFormat, 2>(where, args);
    case FloatKernel::kNarrowTile:
      return launch_tile<kFormat, NarrowTile>(where, args);
    case FloatKernel::kSmallTile:
      return launch_tile<kFormat, SmallTile>(where, args);
    default:
      return launch_tile<kFormat, LargeTile>(where, args);
  }
}

}  // namespace

cudaError_t cuda_linear_float(const CudaLaunch& launch, const CudaMatrix& w, CudaRows x,
                              int64_t n_tokens, const float* bias, CudaStore store, CudaRows out,
                              uint8_t*) {
  const bool grouped = is_grouped(w.format);
  if (grouped && w.family != CudaFamily::kInt8) return cudaErrorInvalidValue;
  const int64_t padded_cols =
      grouped ? cuda_int8::n_groups(w.cols) * cuda_int8::kGroupSize : cuda_padded_cols(w.cols);
  LinearArgs args = {};
  args.values = w.values;
  args.scales = w.scales;
  args.x = x.data;
  args.bias = bias;
  args.out = out.data;
  args.n_rows = w.rows;
  args.n_cols = w.cols;
  args.n_tokens = n_tokens;
  args.x_stride = x.stride;
  args.out_stride = out.stride;
  args.n_stages = static_cast<int32_t>(padded_cols / float_linear::kStageColumns);
  args.scale_multiplier = grouped ? w.scale_multiplier : 1.0f;
  // The codes of 6 bits come as 4 * q.
  if (w.format == WeightFormat::kInt6Group) args.scale_multiplier *= 0.25f;
  args.add = store == CudaStore::kAdd;
  args.vector_x = reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.stride % 4 == 0;
  switch (w.format) {
    case WeightFormat::kF32:
      return launch_format<WeightFormat::kF32>(launch, args);
    case WeightFormat::kF16:
      return launch_format<WeightFormat::kF16>(launch, args);
    case WeightFormat::kBF16:
      return launch_format<WeightFormat::kBF16>(launch, args);
    case WeightFormat::kInt6Group:
      return launch_format<WeightFormat::kInt6Group>(launch, args);
    case WeightFormat::kInt8Group:
      return launch_format<WeightFormat::kInt8Group>(launch, args);
    case WeightFormat::kInt8Row:
      return launch_format<WeightFormat::kInt8Row>(launch, args);
  }
  return cudaErrorInvalidValue;
}

int64_t cuda_linear_float_scratch_bytes(int64_t, int64_t, int64_t) {
  return 0;  // sums of groups stay in shared memory and registers
}

}  // namespace flexq
