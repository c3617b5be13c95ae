// A row of logits in lists of kListTokens consecutive tokens: what is known of a list, and its
// tokens in the order of src/runtime/sampler.cpp (larger logit first, the lower id among equals).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/block_collectives.cuh"
#include "kernels/cuda/cuda_kernels.h"

namespace flexq::sampling {

inline constexpr int kListTokens = 1024;
inline constexpr int kMostLists = 1024;  // the last kernel has one thread per list
inline constexpr int kListThreads = 256;
inline constexpr int kSortThreads = kListTokens / 2;

struct ListSummary {
  float largest;
  int32_t token;      // the lowest with that logit
  int32_t nonfinite;  // NaN or +infinity in the list
  int32_t unused;
  double sum;  // of exp(logit - largest)
};

struct ListScratch {
  ListSummary* summaries;  // (n_lists)
  double* sums;            // (n_lists): of the weights, without filters
  uint64_t* sorted;        // (n_lists, kListTokens): sort codes, descending
  double* prefix_sums;     // (n_lists, kListTokens): of the weights in that order, inclusive

  // Those of the index-th row, where the arrays of all rows follow each other.
  __device__ ListScratch of_row(int64_t index, int64_t n_lists) const {
    const int64_t first = index * n_lists;
    return {summaries + first, sums + first, sorted + first * kListTokens,
            prefix_sums + first * kListTokens};
  }
};

// What a call samples; the kernels' only argument.
struct SampleBatch {
  const float* logits;  // (..., stride)
  int64_t stride;
  int32_t n_vocab;
  int32_t n_lists;
  ListScratch lists;
  CudaSample* samples;  // (rows of the grid)
  CudaSampling samplings[kMaxSampleRows];

  __device__ const float* row(int32_t index) const {
    return logits + samplings[index].row * stride;
  }
};

__host__ __device__ inline bool filters_tokens(const CudaSampling& sampling) {
  return sampling.top_k > 0 || sampling.min_p > 0.0f || sampling.top_p < 1.0f;
}

struct BestToken {
  float logit;
  int32_t token;
};
struct Better {
  __device__ BestToken operator()(BestToken a, BestToken b) const {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token) ? a : b;
  }
};
inline constexpr int32_t kNoToken = INT32_MAX;

// block_reduce for BestToken: shuffles take scalars.
template <int kThreads>
__device__ BestToken block_best(BestToken best, BlockStorage<BestToken>& storage) {
  const Better better;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto exchange = [&](BestToken value) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) {
      value = better(value, {__shfl_xor_sync(~0u, value.logit, mask),
                             __shfl_xor_sync(~0u, value.token, mask)});
    }
    return value;
  };
  best = exchange(best);
  if (lane == 0) storage.of_warp[threadIdx.x / 32] = best;
  __syncthreads();
  best = exchange(lane < kThreads / 32 ? storage.of_warp[lane] : BestToken{-INFINITY, kNoToken});
  __syncthreads();
  return best;
}

__device__ inline bool is_nonfinite_logit(float x) {
  return isnan(x) || x == INFINITY;
}

// The best token of the row from the summaries of all lists.
template <int kThreads>
__device__ BestToken best_of_lists(const ListSummary* summaries, int32_t n_lists,
                                   BlockStorage<BestToken>& storage) {
  BestToken best = {-INFINITY, kNoToken};
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n_lists; i += kThreads)
    best = Better()(best, {summaries[i].largest, summaries[i].token});
  return block_best<kThreads>(best, storage);
}

// The host's (logit - best) / temperature, one rounding each; never -0.
__device__ inline float relative_logit(float logit, float best, float temperature) {
  const float x = __fdiv_rn(__fsub_rn(logit, best), temperature);
  return x == 0.0f ? 0.0f : x;
}
__device__ inline double weight_of(float relative) {
  return exp(static_cast<double>(relative));
}

// Codes order like (relative logit, then lower token first); 0 is below every token's.
__device__ inline uint32_t sort_key(float x) {
  const uint32_t bits = __float_as_uint(x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float key_value(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}
__device__ inline uint64_t sort_code(float relative, int32_t token) {
  return uint64_t{sort_key(relative)} << 32 | ~static_cast<uint32_t>(token);
}
__device__ inline uint32_t key_of(uint64_t code) {
  return static_cast<uint32_t>(code >> 32);
}

// Grid: (n_lists, rows), kListThreads threads.
__global__ void __launch_bounds__(kListThreads)
    summarize_lists(const __grid_constant__ SampleBatch batch) {
  __shared__ BlockStorage<BestToken> best_storage;
  __shared__ BlockStorage<double> sum_storage;
  constexpr int kPerThread = kListTokens / kListThreads;
  const auto index = static_cast<int32_t>(blockIdx.y);
  const float* logits = batch.row(index);
  const int32_t n_vocab = batch.n_vocab;
  const ListScratch scratch = batch.lists.of_row(index, batch.n_lists);
  const int32_t first = static_cast<int32_t>(blockIdx.x) * kListTokens;
  float x[kPerThread];
  BestToken best = {-INFINITY, kNoToken};
  bool nonfinite = false;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int32_t token = first + i * kListThreads + static_cast<int32_t>(threadIdx.x);
    x[i] = token < n_vocab ? logits[token] : -INFINITY;
    nonfinite = nonfinite || is_nonfinite_logit(x[i]);
    if (token < n_vocab) best = Better()(best, {x[i], token});
  }
  best = block_best<kListThreads>(best, best_storage);
  double sum = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i)
    sum += x[i] == -INFINITY ? 0.0f : expf(x[i] - best.logit);
  sum = block_reduce<kListThreads>(sum, 0.0, Sum(), sum_storage);
  const int any = __syncthreads_or(nonfinite);
  if (threadIdx.x == 0) scratch.summaries[blockIdx.x] = {best.logit, best.token, any, 0, sum};
}

// The weights of a list, exp of the relative logit in double: their sum over ascending tokens, or,
// kSorted, the sorted codes with the running sums of their weights. Rows that need the other form,
// or none, are left out.
// Grid: (n_lists, rows), kSortThreads threads with two tokens each.
template <bool kSorted>
__global__ void __launch_bounds__(kSortThreads)
    weigh_lists(const __grid_constant__ SampleBatch batch) {
  __shared__ BlockStorage<BestToken> best_storage;
  __shared__ BlockStorage<double> sum_storage;
  __shared__ uint64_t codes[kListTokens];
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto index = static_cast<int32_t>(blockIdx.y);
  const CudaSampling& sampling = batch.samplings[index];
  const float temperature = sampling.temperature;
  if (temperature == 0.0f || filters_tokens(sampling) != kSorted) return;
  const float* logits = batch.row(index);
  const int32_t n_vocab = batch.n_vocab;
  const ListScratch scratch = batch.lists.of_row(index, batch.n_lists);
  const BestToken best =
      best_of_lists<kSortThreads>(scratch.summaries, static_cast<int32_t>(gridDim.x), best_storage);
  const int32_t first = static_cast<int32_t>(blockIdx.x) * kListTokens;
  double weights[2];
  for (int i = 0; i < 2; ++i) {
    const int32_t token = first + thread * 2 + i;
    const bool there = token < n_vocab;
    const float relative =
        there ? relative_logit(logits[token], best.logit, temperature) : -INFINITY;
    weights[i] = weight_of(relative);
    if constexpr (kSorted) codes[thread * 2 + i] = there ? sort_code(relative, token) : 0;
  }
  if constexpr (!kSorted) {
    const double sum = block_reduce<kSortThreads>(weights[0] + weights[1], 0.0, Sum(), sum_storage);
    if (thread == 0) scratch.sums[blockIdx.x] = sum;
  } else {
    // Bitonic sort, descending: codes differ, so the order is unique (0s at the end apart).
    for (int32_t size = 2; size <= kListTokens; size *= 2) {
      for (int32_t stride = size / 2; stride > 0; stride /= 2) {
        __syncthreads();
        const int32_t low = thread / stride * stride * 2 + thread % stride;
        const int32_t high = low + stride;
        const bool descending = (low & size) == 0;
        const uint64_t a = codes[low];
        const uint64_t b = codes[high];
        if ((a < b) == descending) {
          codes[low] = b;
          codes[high] = a;
        }
      }
    }
    __syncthreads();
    for (int i = 0; i < 2; ++i) {
      const uint64_t code = codes[thread * 2 + i];
      weights[i] = code == 0 ? 0.0 : weight_of(key_value(key_of(code)));
    }
    const double sum = block_inclusive_sum<kSortThreads>(weights[0] + weights[1], sum_storage);
    const int64_t at = int64_t{first} + thread * 2;
    scratch.sorted[at] = codes[thread * 2];
    scratch.sorted[at + 1] = codes[thread * 2 + 1];
    scratch.prefix_sums[at] = sum - weights[1];
    scratch.prefix_sums[at + 1] = sum;
  }
}

}  // namespace flexq::sampling
