// The last kernel of cuda_sample: one CTA with one thread per list of tokens. The tokens that a
// filter keeps are a prefix of the order (larger logit first, the lower id among equals), hence a
// prefix of every sorted list: thread i holds how many tokens of list i are kept.
#pragma once

#include "kernels/cuda/sampling_lists.cuh"

namespace flexq::sampling {

inline constexpr int kDrawThreads = kMostLists;
static_assert(kDrawThreads == kListTokens, "the draw looks at a list with one thread per token");

struct DrawStorage {
  BlockStorage<BestToken> best;
  BlockStorage<double> doubles;
  BlockStorage<int32_t> ints;
  double list_before;
  double target;
  int32_t kept;
};

// One list of the sorted order, as its thread sees it.
struct SortedList {
  const uint64_t* codes;      // null: no list
  const double* prefix_sums;  // inclusive

  __device__ double sum(int32_t n) const { return n > 0 ? prefix_sums[n - 1] : 0.0; }
  // How many tokens have a key of at least `key`, known to be low..high.
  __device__ int32_t count_at_least(uint32_t key, int32_t low, int32_t high) const {
    while (low < high) {
      const int32_t middle = (low + high) / 2;
      if (key_of(codes[middle]) >= key)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
};

// The least probable key that a filter keeps, and where this thread's list has it.
struct Threshold {
  uint32_t key;
  int32_t above;  // tokens of the list with a larger key
  int32_t ties;   // with this key
};

// The largest key such that enough(measure(kept tokens with that key or a larger one)) over all
// lists, for which the whole of what is kept is enough. measure(n): of the first n of this list.
template <typename T, typename Measure, typename Enough>
__device__ Threshold find_threshold(const SortedList& list, int32_t kept, const Measure& measure,
                                    const Enough& enough, BlockStorage<T>& storage) {
  // The first key is at or below every token's, the second above: a relative logit is 0 at most.
  uint32_t low = 1;
  uint32_t high = sort_key(0.0f) + 1;
  int32_t count_low = kept;
  int32_t count_high = 0;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    const int32_t count = list.count_at_least(middle, count_high, count_low);
    if (enough(block_reduce<kDrawThreads>(measure(count), T{}, Sum(), storage))) {
      low = middle;
      count_low = count;
    } else {
      high = middle;
      count_high = count;
    }
  }
  return {low, count_high, count_low - count_high};
}

// What is kept of this list when `wanted` of the tokens with the threshold's key are, those of
// lower ids first.
__device__ inline int32_t keep_ties(const Threshold& threshold, int32_t wanted,
                                    DrawStorage& storage) {
  const int32_t before =
      block_inclusive_sum<kDrawThreads>(threshold.ties, storage.ints) - threshold.ties;
  return threshold.above + min(max(wanted - before, 0), threshold.ties);
}

__device__ inline int32_t keep_top_k(const SortedList& list, int32_t kept, int32_t top_k,
                                     DrawStorage& storage) {
  const Threshold threshold = find_threshold<int32_t>(
      list, kept, [](int32_t n) { return n; }, [=](int32_t n) { return n >= top_k; }, storage.ints);
  const int32_t above =
      block_reduce<kDrawThreads>(threshold.above, int32_t{0}, Sum(), storage.ints);
  return keep_ties(threshold, top_k - above, storage);
}

// Weights are probabilities over that of the best token.
__device__ inline int32_t keep_min_p(const SortedList& list, int32_t kept, float min_p,
                                     bool has_best, DrawStorage& storage) {
  int32_t low = 0;
  int32_t high = kept;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (weight_of(key_value(key_of(list.codes[middle]))) < min_p)
      high = middle;
    else
      low = middle + 1;
  }
  const int32_t total = block_reduce<kDrawThreads>(low, int32_t{0}, Sum(), storage.ints);
  return total > 0 ? low : has_best ? 1 : 0;
}

__device__ inline int32_t keep_top_p(const SortedList& list, int32_t kept, float top_p,
                                     DrawStorage& storage) {
  const double total = block_reduce<kDrawThreads>(list.sum(kept), 0.0, Sum(), storage.doubles);
  const double target = top_p * total;
  const Threshold threshold = find_threshold<double>(
      list, kept, [&](int32_t n) { return list.sum(n); }, [=](double sum) { return sum >= target; },
      storage.doubles);
  const double above =
      block_reduce<kDrawThreads>(list.sum(threshold.above), 0.0, Sum(), storage.doubles);
  const int32_t ties = block_reduce<kDrawThreads>(threshold.ties, int32_t{0}, Sum(), storage.ints);
  // The fewest ties that reach the target: one at least, for `above` does not.
  const double weight = weight_of(key_value(threshold.key));
  int32_t wanted = ties;
  if (weight > 0) {
    wanted = static_cast<int32_t>(
        fmin(fmax(ceil((target - above) / weight), 1.0), static_cast<double>(ties)));
    while (wanted > 1 && above + (wanted - 1) * weight >= target)
      --wanted;
    while (wanted < ties && above + wanted * weight < target)
      ++wanted;
  }
  return keep_ties(threshold, wanted, storage);
}

// The first token, over ascending ids, where the running sum of the kept weights exceeds uniform *
// their total; the last one with any weight where rounding leaves none.
// list_sum: of the kept weights of this thread's list.
__device__ inline int32_t draw_token(const float* logits, int32_t n_vocab, int32_t n_lists,
                                     const CudaSampling& sampling, BestToken best, double list_sum,
                                     int32_t kept, const ListScratch& scratch,
                                     DrawStorage& storage) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const double reached = block_inclusive_sum<kDrawThreads>(list_sum, storage.doubles);
  if (thread == kDrawThreads - 1) storage.target = sampling.uniform * reached;
  __syncthreads();
  const double target = storage.target;

  // Largest of negative numbers: the first thread that qualifies.
  const bool passes = list_sum > 0 && reached > target;
  int32_t chosen =
      -block_reduce<kDrawThreads>(passes ? -thread : -n_lists, -n_lists, Max(), storage.ints);
  if (chosen == n_lists)
    chosen = block_reduce<kDrawThreads>(list_sum > 0 ? thread : 0, 0, Max(), storage.ints);
  if (thread == chosen) {
    storage.list_before = reached - list_sum;
    storage.kept = kept;
  }
  __syncthreads();

  const int32_t token = chosen * kListTokens + thread;
  double weight = 0;
  if (token < n_vocab) {
    const float relative = relative_logit(logits[token], best.logit, sampling.temperature);
    const bool filtered = scratch.sorted != nullptr;
    const bool is_kept =
        !filtered ||
        (storage.kept > 0 && sort_code(relative, token) >=
                                 scratch.sorted[int64_t{chosen} * kListTokens + storage.kept - 1]);
    if (is_kept) weight = weight_of(relative);
  }
  const double running =
      storage.list_before + block_inclusive_sum<kDrawThreads>(weight, storage.doubles);
  const bool is_drawn = weight > 0 && running > target;
  const int32_t first = -block_reduce<kDrawThreads>(is_drawn ? -thread : -kListTokens, -kListTokens,
                                                    Max(), storage.ints);
  const int32_t last = block_reduce<kDrawThreads>(weight > 0 ? thread : 0, 0, Max(), storage.ints);
  return chosen * kListTokens + (first < kListTokens ? first : last);
}

// Grid: (rows), kDrawThreads threads.
__global__ void __launch_bounds__(kDrawThreads, 1) draw(const __grid_constant__ SampleBatch batch) {
  __shared__ DrawStorage storage;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto index = static_cast<int32_t>(blockIdx.x);
  const CudaSampling& sampling = batch.samplings[index];
  const float* logits = batch.row(index);
  const int32_t n_vocab = batch.n_vocab;
  const int32_t n_lists = batch.n_lists;
  const ListScratch scratch = batch.lists.of_row(index, n_lists);
  CudaSample* sample = batch.samples + index;
  const bool filters = filters_tokens(sampling);  // then weigh_lists sorted the lists
  const bool has_list = thread < n_lists;
  ListSummary summary = {-INFINITY, kNoToken, 0, 0, 0.0};
  if (has_list) summary = scratch.summaries[thread];
  const BestToken best = block_best<kDrawThreads>({summary.largest, summary.token}, storage.best);
  const int any = __syncthreads_or(has_list && summary.nonfinite != 0);
  // Without a token above -infinity every one is forbidden.
  if (any != 0 || !(best.logit > -INFINITY)) {
    if (thread == 0) *sample = {0, 0.0f, 1};
    return;
  }
  const double scaled =
      summary.sum > 0 ? summary.sum * exp(static_cast<double>(summary.largest) - best.logit) : 0.0;
  const double sum_exp = block_reduce<kDrawThreads>(scaled, 0.0, Sum(), storage.doubles);

  int32_t token = best.token;
  if (sampling.temperature != 0.0f) {
    const int64_t first = int64_t{thread} * kListTokens;
    int32_t kept = has_list ? min(kListTokens, n_vocab - static_cast<int32_t>(first)) : 0;
    double list_sum = 0;
    if (filters) {
      const SortedList list = {scratch.sorted + first, scratch.prefix_sums + first};
      if (sampling.top_k > 0 && sampling.top_k < n_vocab)
        kept = keep_top_k(list, kept, sampling.top_k, storage);
      if (sampling.min_p > 0.0f) {
        const bool has_best = best.token / kListTokens == thread;
        kept = keep_min_p(list, kept, sampling.min_p, has_best, storage);
      }
      if (sampling.top_p < 1.0f) kept = keep_top_p(list, kept, sampling.top_p, storage);
      list_sum = list.sum(kept);
    } else if (has_list) {
      list_sum = scratch.sums[thread];
    }
    ListScratch lists = scratch;
    if (!filters) lists.sorted = nullptr;
    token = draw_token(logits, n_vocab, n_lists, sampling, best, list_sum, kept, lists, storage);
  }
  if (thread == 0) {
    const double log_sum_exp = static_cast<double>(best.logit) + log(sum_exp);
    *sample = {token, static_cast<float>(logits[token] - log_sum_exp), 0};
  }
}

}  // namespace flexq::sampling
