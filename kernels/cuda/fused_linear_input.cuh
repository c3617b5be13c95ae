// The input of int8_linear_fused.cu as codes and scales in shared memory: copied, or a row that the
// CTA quantizes, and normalizes before, itself. By the warps that multiply.
#pragma once

#include "kernels/cuda/fused_linear_walk.cuh"
#include "kernels/cuda/programmatic_launch.cuh"
#include "kernels/cuda/row_quantizer.cuh"

namespace flexq {
namespace {

// Among the warps that multiply.
__device__ inline void multiply_warps_meet() {
  asm volatile("bar.sync 1, %0;" ::"n"(kMultiplyThreads) : "memory");
}

// Values [column, column + 4) of the row, zeros past its end. Written by the kernel before: not
// from the L1 cache, which may hold what was there earlier. Loads of whole quads come one after the
// other without a branch; end_quad() then sees to the quad that the row's end cuts.
__device__ inline float4 load_row_quad(const FusedArgs& args, int32_t column) {
  return column + kQuad <= args.n_cols
             ? __ldcg(reinterpret_cast<const float4*>(args.x_row + column))
             : make_float4(0, 0, 0, 0);
}
__device__ inline void end_quad(const FusedArgs& args, int32_t column, float4& quad) {
  const int32_t n = args.n_cols - column;
  if (n <= 0 || n >= kQuad) return;
  quad.x = __ldcg(args.x_row + column);
  if (n > 1) quad.y = __ldcg(args.x_row + column + 1);
  if (n > 2) quad.z = __ldcg(args.x_row + column + 2);
}
__device__ inline bool cuts_quad(const FusedArgs& args) {
  return args.n_cols % kQuad != 0;
}

// Codes and scales of the row as it is.
__device__ inline void quantize_rows(const FusedArgs& args, int32_t warp,
                                     const CudaQuantized& out) {
  // The 86 groups of 11008 columns over 8 warps are read at once, and quantized in parts, so that a
  // narrow row ends early.
  constexpr int32_t kParts = 3;
  constexpr int32_t kGroups = 4;
  constexpr int32_t kStep = kGroups * kFusedWarps;
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  wait_for_kernel_before();
  for (int32_t first = warp; first < args.n_groups; first += kParts * kStep) {
    float4 quads[kParts][kGroups];
    const auto column = [&](int32_t part, int32_t i) {
      return (first + part * kStep + i * kFusedWarps) * kGroupColumns + lane * kQuad;
    };
#pragma unroll
    for (int32_t part = 0; part < kParts; ++part) {
#pragma unroll
      for (int32_t i = 0; i < kGroups; ++i) {
        quads[part][i] = load_row_quad(args, column(part, i));
      }
    }
    if (cuts_quad(args)) {
#pragma unroll
      for (int32_t part = 0; part < kParts; ++part) {
#pragma unroll
        for (int32_t i = 0; i < kGroups; ++i)
          end_quad(args, column(part, i), quads[part][i]);
      }
    }
#pragma unroll
    for (int32_t part = 0; part < kParts; ++part) {
      if (first + part * kStep >= args.n_groups) break;
      quantize_groups(quads[part], args.code_max, first + part * kStep, kFusedWarps, args.n_groups,
                      out);
    }
  }
}

// The same of rms_norm(row) * norm: as rms_norm_quantize_kernel, whose thread i of warp v is lane i
// of the warp v % 8 here. Calls row_is_here() once it is in registers.
template <int32_t kLaps, typename RowIsHere>
__device__ inline void normalize_rows(const FusedArgs& args, int32_t warp, float* warp_sums,
                                      const RowIsHere& row_is_here, const CudaQuantized& out) {
  constexpr int32_t kMostWarps = kMostNormThreads / 32;
  constexpr int32_t kOwn = kMostWarps / kFusedWarps;  // of a lap
  constexpr int32_t kAll = kLaps * kOwn;
  const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
  float4 factors[kAll];
  float4 quads[kAll];
  const auto column = [&](int32_t i) {
    return (warp + i * kFusedWarps) * kGroupColumns + lane * kQuad;
  };
#pragma unroll
  for (int32_t i = 0; i < kAll; ++i)
    factors[i] = load_quad(args.norm, column(i), args.n_cols, true);
  wait_for_kernel_before();
#pragma unroll
  for (int32_t i = 0; i < kAll; ++i)
    quads[i] = load_row_quad(args, column(i));
  if (cuts_quad(args)) {
#pragma unroll
    for (int32_t i = 0; i < kAll; ++i)
      end_quad(args, column(i), quads[i]);
  }
  float sums[kOwn] = {};
#pragma unroll
  for (int32_t i = 0; i < kAll; ++i)
    if (column(i) < args.n_cols) sums[i % kOwn] = add_squares(sums[i % kOwn], quads[i]);
  sum_over_warp(sums);
  row_is_here();
  if (lane == 0) {
#pragma unroll
    for (int32_t i = 0; i < kOwn; ++i)
      warp_sums[warp + i * kFusedWarps] = sums[i];
  }
  multiply_warps_meet();
  const int32_t n_warps = norm_threads(args.n_cols) / 32;
  const float sum = warp_sum(lane < n_warps ? warp_sums[lane] : 0.0f);
  const float inverse = inverse_of_sum(sum, args.n_cols, args.eps);
#pragma unroll
  for (int32_t i = 0; i < kAll; ++i)
    quads[i] = normalize(quads[i], inverse, factors[i]);
  quantize_groups(quads, args.code_max, warp, kFusedWarps, args.n_groups, out);
}

// Quantized activations of all tokens.
template <typename S>
__device__ inline void copy_codes(const FusedArgs& args, uint8_t* codes, float* scales) {
  wait_for_kernel_before();
  const int32_t n_pieces = args.n_groups * static_cast<int32_t>(kGroupSize) / 16;
  for (int32_t token = 0; token < args.n_tokens; ++token) {
    const auto* from = reinterpret_cast<const uint4*>(args.x_codes) + int64_t{token} * n_pieces;
    auto* to = reinterpret_cast<uint4*>(codes + token * args.token_bytes);
    for (auto i = static_cast<int32_t>(threadIdx.x); i < n_pieces; i += kMultiplyThreads)
      to[i] = __ldcg(from + i);
    const float* from_scales = args.x_scales + int64_t{token} * args.n_groups;
    for (auto i = static_cast<int32_t>(threadIdx.x); i < args.n_groups; i += kMultiplyThreads)
      scales[i * S::kTokens + token] = __ldcg(from_scales + i);
  }
}

}  // namespace
}  // namespace flexq
