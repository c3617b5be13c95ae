// Sampling on the device: the stages of src/runtime/sampler.cpp on rows of logits.
//
// The same comparisons on the same numbers as the host, with two exceptions in the last places of
// doubles: exp() is the device's (the host's and the device's differ by an ulp now and then), and
// sums of weights run over lists of 1024 tokens (thread pairs, warps, then lists, always in the
// same order) where the host adds one token after the other. A token can therefore differ from the
// host's only where a running sum comes within some 1e-13 of the total to a bound. Sums of equal
// weights of the best token are integers: exact, on both sides.
#include <algorithm>

#include "kernels/cuda/programmatic_launch.cuh"
#include "kernels/cuda/row_quads.cuh"
#include "kernels/cuda/sampling_draw.cuh"

namespace flexq {
namespace sampling {
namespace {

constexpr int kRowThreads = 512;

constexpr int kSearchThreads = 1024;

struct Searched {
  CudaRowsOfWidth sets[kMostSearched];
};

// Grid: (n_rows, sets), kSearchThreads threads: a row of 32,000 is read at once.
__global__ void __launch_bounds__(kSearchThreads)
    find_nonfinite(const __grid_constant__ Searched searched, int32_t* flags) {
  constexpr int kAtOnce = 8;  // loads on their way
  take_turn();
  const CudaRowsOfWidth& set = searched.sets[blockIdx.y];
  const float* row = set.rows.data + blockIdx.x * set.rows.stride;
  const bool aligned = reinterpret_cast<uintptr_t>(row) % sizeof(float4) == 0;
  bool found = false;
  for (int64_t begin = threadIdx.x; begin * kQuad < set.width; begin += kAtOnce * kSearchThreads) {
    float4 quads[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
      quads[i] = load_quad(row, (begin + i * kSearchThreads) * kQuad, set.width, aligned);
#pragma unroll
    for (const float4& quad : quads)
      found = found || !is_finite(quad);
  }
  const int any = __syncthreads_or(found);
  if (threadIdx.x == 0) flags[blockIdx.y * gridDim.x + blockIdx.x] = any != 0 ? 1 : 0;
}

// Grid: (n_rows), kRowThreads threads. NaN and infinities give NaN, as the plain formula does.
__global__ void __launch_bounds__(kRowThreads)
    log_probs_of(const float* logits, int64_t stride, int64_t n_vocab, const int32_t* tokens,
                 float* log_probs) {
  __shared__ BlockStorage<float> max_storage;
  __shared__ BlockStorage<double> sum_storage;
  const float* row = logits + blockIdx.x * stride;
  float largest = -INFINITY;
  for (int64_t i = threadIdx.x; i < n_vocab; i += kRowThreads)
    largest = fmaxf(largest, row[i]);
  largest = block_reduce<kRowThreads>(largest, -INFINITY, Max(), max_storage);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n_vocab; i += kRowThreads)
    sum += expf(row[i] - largest);
  sum = block_reduce<kRowThreads>(sum, 0.0, Sum(), sum_storage);
  if (threadIdx.x == 0) {
    const double log_sum_exp = static_cast<double>(largest) + log(sum);
    log_probs[blockIdx.x] = static_cast<float>(row[tokens[blockIdx.x]] - log_sum_exp);
  }
}

constexpr int64_t n_lists_of(int64_t n_vocab) {
  return (n_vocab + kListTokens - 1) / kListTokens;
}

ListScratch carve(uint8_t* scratch, int64_t n_lists) {
  ListScratch lists;
  lists.sorted = reinterpret_cast<uint64_t*>(scratch);
  lists.prefix_sums = reinterpret_cast<double*>(lists.sorted + n_lists * kListTokens);
  lists.sums = lists.prefix_sums + n_lists * kListTokens;
  lists.summaries = reinterpret_cast<ListSummary*>(lists.sums + n_lists);
  return lists;
}

}  // namespace
}  // namespace sampling

cudaError_t cuda_find_nonfinite(const CudaLaunch& where, std::span<const CudaRowsOfWidth> searched,
                                int64_t n_rows, int32_t* flags) {
  if (searched.empty() || searched.size() > kMostSearched) return cudaErrorInvalidValue;
  sampling::Searched sets = {};
  std::ranges::copy(searched, sets.sets);
  return launch_overlapping(
      where, sampling::find_nonfinite,
      dim3(static_cast<unsigned>(n_rows), static_cast<unsigned>(searched.size())),
      dim3(sampling::kSearchThreads), 0, sets, flags);
}

cudaError_t cuda_log_probs(const CudaLaunch& where, CudaRows logits, int64_t n_vocab,
                           const int32_t* tokens, int64_t n_rows, float* log_probs) {
  return launch(where, sampling::log_probs_of, dim3(static_cast<unsigned>(n_rows)),
                dim3(sampling::kRowThreads), 0, logits.data, logits.stride, n_vocab, tokens,
                log_probs);
}

cudaError_t cuda_sample(const CudaLaunch& where, CudaRows logits, int64_t n_vocab,
                        std::span<const CudaSampling> samplings, CudaSample* samples,
                        uint8_t* scratch) {
  using namespace sampling;
  const int64_t n_lists = n_lists_of(n_vocab);
  const auto n_rows = static_cast<unsigned>(samplings.size());
  if (n_vocab < 1 || n_lists > kMostLists || n_rows < 1 || n_rows > kMaxSampleRows)
    return cudaErrorInvalidValue;
  SampleBatch batch = {};
  batch.logits = logits.data;
  batch.stride = logits.stride;
  batch.n_vocab = static_cast<int32_t>(n_vocab);
  batch.n_lists = static_cast<int32_t>(n_lists);
  batch.lists = carve(scratch, n_lists * n_rows);
  batch.samples = samples;
  std::ranges::copy(samplings, batch.samplings);
  const dim3 grid(static_cast<unsigned>(n_lists), n_rows);
  cudaError_t error = launch(where, summarize_lists, grid, dim3(kListThreads), 0, batch);
  for (const bool sorted : {false, true}) {
    const bool wanted = std::ranges::any_of(samplings, [=](const CudaSampling& sampling) {
      return sampling.temperature != 0.0f && filters_tokens(sampling) == sorted;
    });
    if (!wanted || error != cudaSuccess) continue;
    error = launch(where, sorted ? weigh_lists<true> : weigh_lists<false>, grid, dim3(kSortThreads),
                   0, batch);
  }
  if (error != cudaSuccess) return error;
  return launch(where, draw, dim3(n_rows), dim3(kDrawThreads), 0, batch);
}

int64_t cuda_sample_scratch_bytes(int64_t n_vocab, int64_t n_rows) {
  using namespace sampling;
  const int64_t n_lists = n_lists_of(n_vocab) * n_rows;
  return n_lists * (kListTokens * int64_t{sizeof(uint64_t) + sizeof(double)} +
                    int64_t{sizeof(double) + sizeof(ListSummary)});
}

}  // namespace flexq
