#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/floating_point.h"
#include "runtime/philox.h"

namespace flexq {
namespace {

// The total order of every stage: larger logit first, the lower id among equals.
constexpr auto kMoreProbable = [](const auto& a, const auto& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
};

// ln sum exp(logits), in double, ascending.
double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits)
    sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

}  // namespace

void SamplingParams::set_logit_bias(int32_t token, float bias) {
  const auto place =
      std::lower_bound(logit_bias.begin(), logit_bias.end(), token,
                       [](const auto& entry, int32_t id) { return entry.first < id; });
  if (place != logit_bias.end() && place->first == token) {
    place->second = bias;
  } else {
    logit_bias.insert(place, {token, bias});
  }
}

void Sampler::reserve(int32_t n_vocab, int32_t n_history) {
  candidates_.reserve(static_cast<size_t>(n_vocab));
  weights_.reserve(static_cast<size_t>(n_vocab));
  window_.reserve(static_cast<size_t>(n_history));
}

Status Sampler::apply_bias(const SamplingParams& params) {
  for (const auto& [token, bias] : params.logit_bias) {
    if (token < 0 || static_cast<size_t>(token) >= candidates_.size()) {
      return Status::error(StatusCode::kInvalidArgument,
                           "logit bias: expected a token from 0 to %zu, found %d",
                           candidates_.size() - 1, token);
    }
    candidates_[static_cast<size_t>(token)].logit += bias;
  }
  return Status();
}

void Sampler::apply_penalties(const SamplingParams& params, std::span<const int32_t> history) {
  const size_t n = std::min(history.size(), static_cast<size_t>(params.penalty_window));
  window_.assign(history.end() - static_cast<ptrdiff_t>(n), history.end());
  std::sort(window_.begin(), window_.end());
  for (size_t begin = 0; begin < window_.size();) {
    const int32_t token = window_[begin];
    size_t end = begin;
    while (end < window_.size() && window_[end] == token)
      ++end;
    const auto count = static_cast<float>(end - begin);
    begin = end;
    if (token < 0 || static_cast<size_t>(token) >= candidates_.size()) continue;
    float& logit = candidates_[static_cast<size_t>(token)].logit;
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    logit -= params.presence_penalty + params.frequency_penalty * count;
  }
}

// top-k, min-p and top-p, on candidates_ sorted by probability; keeps them in that order.
void Sampler::keep_most_probable(const SamplingParams& params) {
  size_t kept = candidates_.size();
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < kept) {
    kept = static_cast<size_t>(params.top_k);
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(kept - 1),
                     candidates_.end(), kMoreProbable);
    candidates_.resize(kept);
  }
  std::sort(candidates_.begin(), candidates_.end(), kMoreProbable);
  compute_weights();
  // A weight is the probability over that of the most probable token, which is what min-p compares.
  while (kept > 1 && weights_[kept - 1] < params.min_p)
    --kept;
  if (params.top_p < 1.0f) {
    double total = 0;
    for (size_t i = 0; i < kept; ++i)
      total += weights_[i];
    double reached = 0;
    for (size_t i = 0; i < kept; ++i) {
      reached += weights_[i];
      if (reached >= params.top_p * total) {
        kept = i + 1;
        break;
      }
    }
  }
  candidates_.resize(kept);
}

void Sampler::compute_weights() {
  weights_.clear();
  for (const Candidate& candidate : candidates_)
    weights_.push_back(std::exp(static_cast<double>(candidate.logit)));
}

int32_t Sampler::draw(float uniform) {
  double total = 0;
  for (const double weight : weights_)
    total += weight;
  const double target = uniform * total;
  double reached = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    reached += weights_[i];
    if (reached > target) return candidates_[i].token;
  }
  // Rounding may leave the target just above the last sum: take the last token with any weight.
  size_t last = weights_.size() - 1;
  while (last > 0 && weights_[last] == 0)
    --last;
  return candidates_[last].token;
}

Result<SampledToken> Sampler::sample(const SamplingParams& params, std::span<const float> logits,
                                     std::span<const int32_t> history, int32_t position,
                                     std::span<const uint64_t> allowed) {
  const DefaultFloatingPoint environment;
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == INFINITY) {
      return Status::error(StatusCode::kNonFinite,
                           "logit of token %zu: expected a finite number, "
                           "found %s",
                           i, std::isnan(logits[i]) ? "NaN" : "infinity");
    }
    candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
  FLEXQ_RETURN_IF_ERROR(apply_bias(params));
  if (params.penalizes()) apply_penalties(params, history);
  if (!allowed.empty()) {
    // Bias and penalties find a token by its place, so what is not allowed leaves after them. That
    // is as good as before: neither looks from one token at another.
    std::erase_if(candidates_, [allowed](const Candidate& candidate) {
      const auto token = static_cast<size_t>(candidate.token);
      return (allowed[token / 64] >> (token % 64) & 1) == 0;
    });
  }

  const auto place = std::min_element(candidates_.begin(), candidates_.end(), kMoreProbable);
  const Candidate best = place != candidates_.end() ? *place : Candidate{-INFINITY, -1};
  if (!(best.logit > -INFINITY)) {
    return Status::error(StatusCode::kNonFinite,
                         "sampling: expected at least one token that is "
                         "not forbidden, found none");
  }
  if (best.logit == INFINITY) {
    return Status::error(StatusCode::kNonFinite,
                         "logit of token %d: expected a finite number after bias and penalties, "
                         "found infinity",
                         best.token);
  }
  SampledToken sampled;
  if (params.temperature == 0.0f) {
    sampled.token = best.token;
  } else {
    // Relative to the largest, which the softmax does not see and no temperature makes infinite.
    for (Candidate& candidate : candidates_)
      candidate.logit = (candidate.logit - best.logit) / params.temperature;
    if (params.top_k > 0 || params.min_p > 0.0f || params.top_p < 1.0f) {
      keep_most_probable(params);
      // The draw runs over ascending ids, so that it does not depend on how the filters sorted.
      std::sort(candidates_.begin(), candidates_.end(),
                [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
    }
    compute_weights();
    sampled.token = draw(uniform_at(params.seed, position));
  }
  sampled.log_prob =
      static_cast<float>(logits[static_cast<size_t>(sampled.token)] - log_sum_exp(logits));
  return sampled;
}

void Sampler::most_probable(std::span<const float> logits, int32_t n,
                            std::vector<TokenLogProb>& out) {
  out.clear();
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
  const size_t kept = std::min(candidates_.size(), static_cast<size_t>(n));
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(kept),
                    candidates_.end(), kMoreProbable);
  const double normalizer = log_sum_exp(logits);
  for (size_t i = 0; i < kept; ++i) {
    out.push_back({candidates_[i].token, static_cast<float>(candidates_[i].logit - normalizer)});
  }
}

}  // namespace flexq
