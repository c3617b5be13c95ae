// From logits to a token, in the documented order of stages (flexq.h, "Sampling").
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"

namespace flexq {

struct SamplingParams {
  float temperature = 0.0f;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  int32_t penalty_window = 64;
  uint64_t seed = 0;
  std::vector<std::pair<int32_t, float>> logit_bias;  // sorted by token
  void set_logit_bias(int32_t token, float bias);
  bool penalizes() const {
    return penalty_window > 0 &&
           (repetition_penalty != 1.0f || presence_penalty != 0.0f || frequency_penalty != 0.0f);
  }
};

struct SampledToken {
  int32_t token = -1;
  float log_prob = 0;  // under the untouched logits
};

struct TokenLogProb {
  int32_t token;
  float log_prob;
};

// Holds the scratch of one stream of samples; reserve() makes later calls free of allocations.
class Sampler {
 public:
  // For logits of n_vocab tokens and penalties over at most n_history of them.
  void reserve(int32_t n_vocab, int32_t n_history);

  // history: tokens that penalties look at, oldest first; position: that of the new token; allowed:
  // bit t % 64 of word t / 64 says whether token t exists for all stages, empty: every one does.
  // kNonFinite for NaN, +infinity (in the logits, or made by bias and penalties), or when every
  // token is forbidden; kInvalidArgument for a bias outside the vocabulary.
  Result<SampledToken> sample(const SamplingParams& params, std::span<const float> logits,
                              std::span<const int32_t> history, int32_t position,
                              std::span<const uint64_t> allowed = {});

  // The n most probable tokens under the untouched logits, most probable first.
  void most_probable(std::span<const float> logits, int32_t n, std::vector<TokenLogProb>& out);

 private:
  struct Candidate {
    float logit;
    int32_t token;
  };
  Status apply_bias(const SamplingParams& params);
  void apply_penalties(const SamplingParams& params, std::span<const int32_t> history);
  void keep_most_probable(const SamplingParams& params);
  // weights_[i] = exp(candidates_[i].logit)
  void compute_weights();
  int32_t draw(float uniform);

  std::vector<Candidate> candidates_;
  std::vector<double> weights_;  // of candidates_, relative to the largest
  std::vector<int32_t> window_;  // sorted history
};

}  // namespace flexq
