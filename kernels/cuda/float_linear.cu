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

enum class FloatKernel { kDecode, kNarrowTile, kSmallTile, kLargeTile };

// How the decode kernel would be launched; no warps where the activations do not fit.
struct DecodeLaunch {
  int n_warps = 0;
  int64_t ctas = 0;
  int64_t shared_bytes = 0;
};
template <WeightFormat kFormat>
DecodeLaunch plan_decode(const CudaLaunch& where, const LinearArgs& args) {
  using namespace float_linear;
  using Shape = DecodeShape<kFormat>;
  if (args.n_tokens > kDecodeTokens) return {};
  const int64_t limit = shared_bytes_per_cta(where.sm);
  const int64_t n_groups = ceil_div(args.n_stages, kGroupStages);
  for (int n_warps = kMostDecodeWarps; n_warps >= Shape::kLeastWarps; n_warps /= 2) {
    const int64_t bytes = Shape::shared_bytes(n_warps, args.n_tokens, n_groups);
    if (bytes > limit) continue;
    // As many CTAs as run at a time: registers allow two, each costs 1 KiB more.
    const int64_t per_sm = bytes * 2 + 1024 <= limit ? 2 : 1;
    return {n_warps, std::min(ceil_div(args.n_rows, Shape::kRows), where.n_sms * per_sm), bytes};
  }
  return {};
}

template <WeightFormat kFormat>
cudaError_t launch_decode(const CudaLaunch& where, const LinearArgs& args,
                          const DecodeLaunch& plan) {
  return launch_overlapping(
      where, float_linear::float_linear_decode<kFormat>, dim3(static_cast<unsigned>(plan.ctas)),
      dim3(static_cast<unsigned>(plan.n_warps * 32)), static_cast<size_t>(plan.shared_bytes), args);
}

template <WeightFormat kFormat, typename T>
cudaError_t launch_tile(const CudaLaunch& where, const LinearArgs& args) {
  const dim3 grid(static_cast<unsigned>(ceil_div(args.n_tokens, T::kTokens)),
                  static_cast<unsigned>(ceil_div(args.n_rows, T::kRows)));
  constexpr size_t kSharedBytes = size_t{T::kRing} * float_linear::kTileStageBytes<T, kFormat>;
  return launch(where, float_linear::float_linear_tile<kFormat, T>, grid, dim3(T::kThreads),
                kSharedBytes, args);
}

// All kernels give the same bits: the choice is about time only.
template <WeightFormat kFormat>
cudaError_t launch_format(const CudaLaunch& where, const LinearArgs& args) {
  const DecodeLaunch decode = plan_decode<kFormat>(where, args);
  if (decode.n_warps > 0) return launch_decode<kFormat>(where, args, decode);
  if (args.n_tokens <= NarrowTile::kTokens) return launch_tile<kFormat, NarrowTile>(where, args);
  const int64_t large_tiles =
      ceil_div(args.n_rows, LargeTile::kRows) * ceil_div(args.n_tokens, LargeTile::kTokens);
  // The rings of large tiles take up to 72 KiB; sm_75 has 64.
  if (large_tiles >= where.n_sms && where.sm >= 80)
    return launch_tile<kFormat, LargeTile>(where, args);
  return launch_tile<kFormat, SmallTile>(where, args);
}

}  // namespace

cudaError_t cuda_linear_float(const CudaLaunch& launch, const CudaMatrix& w, CudaRows x,
                              int64_t n_tokens, const float* bias, CudaStore store, CudaRows out,
                              int32_t* nonfinite) {
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
  args.nonfinite = nonfinite;
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

}  // namespace flexq
