// The end of the wgmma kernel: bias, residual or silu(gate) * up, and the stores.
#pragma once

#include "kernels/cuda/silu.cuh"
#include "kernels/cuda/wgmma_stages.cuh"

namespace flexq {
namespace {

// Outputs of a thread in the order of its sums: value i belongs to token i / 4 * 8 + lane % 4 * 2 +
// i % 2 of the item and to row lane / 4 + i % 4 / 2 * 8 of the unit.
struct OutputPlace {
  float* first;  // of the thread's first token and row
  int64_t stride;
  int32_t n_tokens;  // of the item, from the thread's first one on
  int32_t n_rows;    // likewise

  __device__ OutputPlace(const WgmmaPart& part, const WgmmaItem& item, int32_t block,
                         int32_t n_tokens_of_all) {
    const auto lane = static_cast<int32_t>(threadIdx.x) % 32;
    const int32_t token = item.first_token + lane % 4 * 2;
    const int32_t row = block * static_cast<int32_t>(cuda_int8::kUnitRows) + lane / 4;
    first = part.out + token * part.out_stride + row;
    stride = part.out_stride;
    n_tokens = n_tokens_of_all - token;
    n_rows = part.n_rows - row;
  }
  __device__ static int32_t token(int32_t value) { return value / 4 * 8 + value % 2; }
  __device__ static int32_t row(int32_t value) { return value % 4 / 2 * 8; }
  __device__ bool exists(int32_t value) const {
    return token(value) < n_tokens && row(value) < n_rows;
  }
  __device__ float* at(int32_t value) const { return first + token(value) * stride + row(value); }
};

// The biases of a thread's two rows.
__device__ float2 row_biases(const WgmmaPart& part, int32_t block) {
  if (part.bias == nullptr) return make_float2(0, 0);
  const int32_t row = block * static_cast<int32_t>(cuda_int8::kUnitRows) +
                      static_cast<int32_t>(threadIdx.x) % 32 / 4;
  return make_float2(row < part.n_rows ? part.bias[row] : 0,
                     row + 8 < part.n_rows ? part.bias[row + 8] : 0);
}

template <typename S>
__device__ void store_sums(const WgmmaArgs& args, const WgmmaItem& item, const WgmmaUnit& unit,
                           float (&sums)[S::kSteps][S::kStepValues]) {
  const WgmmaPart& part = args.parts[unit.part];
  if (part.bias != nullptr) {
    const float2 bias = row_biases(part, unit.block);
#pragma unroll
    for (int i = 0; i < S::kTokens / 2; ++i) {
      float& sum = sums[i / S::kStepValues][i % S::kStepValues];
      sum = __fadd_rn(sum, i % 4 < 2 ? bias.x : bias.y);
    }
  }
  const OutputPlace out(part, item, unit.block, args.n_tokens);
#pragma unroll
  for (int step = 0; step < S::kSteps; ++step) {
    constexpr int kValues = S::kStepValues;
    // All loads first: each waits for memory.
    float before[kValues];
    if (args.store == CudaStore::kAdd) {
#pragma unroll
      for (int i = 0; i < kValues; ++i)
        before[i] = out.exists(step * kValues + i) ? *out.at(step * kValues + i) : 0.0f;
#pragma unroll
      for (int i = 0; i < kValues; ++i)
        sums[step][i] = __fadd_rn(before[i], sums[step][i]);
    }
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      if (out.exists(step * kValues + i)) *out.at(step * kValues + i) = sums[step][i];
    }
  }
}

// All threads of two warpgroups meet. Barrier 0 is __syncthreads().
__device__ inline void sync_warpgroups(int32_t pair) {
  asm volatile("bar.sync %0, 256;" ::"r"(pair + 1) : "memory");
}

// silu(gate) * up: of a thread's outputs the gate warpgroup finishes the first half, the up
// warpgroup the second.
template <typename S>
__device__ void store_silu(const WgmmaArgs& args, const WgmmaItem& item, const WgmmaUnit& unit,
                           int32_t warpgroup, float* exchange,
                           const float (&sums)[S::kSteps][S::kStepValues]) {
  constexpr int kHalf = S::kTokens / 4;
  constexpr int kRound = S::kExchangeFloats;
  const bool is_gate = unit.part == 0;
  const auto thread = static_cast<int32_t>(threadIdx.x) % 128;
  const int32_t pair = warpgroup % (S::kWarpgroups / 2);
  const int32_t other = (warpgroup + S::kWarpgroups / 2) % S::kWarpgroups;
  auto* sent = reinterpret_cast<float4*>(exchange) + warpgroup * 128 * (kRound / 4) + thread;
  const auto* received =
      reinterpret_cast<const float4*>(exchange) + other * 128 * (kRound / 4) + thread;
  const float2 gate_bias = row_biases(args.parts[0], unit.block);
  const float2 up_bias = row_biases(args.parts[1], unit.block);
  const bool has_gate_bias = args.parts[0].bias != nullptr;
  const bool has_up_bias = args.parts[1].bias != nullptr;
  const OutputPlace out(args.parts[0], item, unit.block, args.n_tokens);
  const auto sum = [&](int value) { return sums[value / S::kStepValues][value % S::kStepValues]; };
#pragma unroll
  for (int begin = 0; begin < kHalf; begin += kRound) {
#pragma unroll
    for (int i = 0; i < kRound; i += 4) {
      float four[4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        four[j] = is_gate ? sum(kHalf + begin + i + j) : sum(begin + i + j);
      sent[i / 4 * 128] = make_float4(four[0], four[1], four[2], four[3]);
    }
    sync_warpgroups(pair);
#pragma unroll
    for (int i = 0; i < kRound; i += 4) {
      const float4 theirs4 = received[i / 4 * 128];
      const float theirs[4] = {theirs4.x, theirs4.y, theirs4.z, theirs4.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int value = begin + i + j;
        const float own = is_gate ? sum(value) : sum(kHalf + value);
        float gate = is_gate ? own : theirs[j];
        float up = is_gate ? theirs[j] : own;
        if (has_gate_bias) gate = __fadd_rn(gate, value % 4 < 2 ? gate_bias.x : gate_bias.y);
        if (has_up_bias) up = __fadd_rn(up, value % 4 < 2 ? up_bias.x : up_bias.y);
        const int32_t place = is_gate ? value : kHalf + value;
        if (unit.exists && out.exists(place)) *out.at(place) = silu_times(gate, up);
      }
    }
    sync_warpgroups(pair);
  }
}

}  // namespace
}  // namespace flexq
