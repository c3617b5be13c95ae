#include <cmath>

#include "api/handles.h"

using flexq::Status;
using flexq::StatusCode;
using flexq::api::guarded;
using flexq::api::Held;

namespace {

constexpr float kMaxTemperature = 100.0f;
constexpr float kMaxPenalty = 100.0f;
constexpr int32_t kMaxTopK = 1 << 20;

// Sets one parameter within [low, high]; NaN is refused.
template <typename T>
flexq_status set_in_range(flexq_sampling* sampling, T flexq::SamplingParams::*field, T low, T high,
                          T value, const char* name) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(sampling);
    if (!(value >= low && value <= high)) {
      return flexq::api::invalid_range(name, static_cast<double>(low), static_cast<double>(high),
                                       static_cast<double>(value));
    }
    sampling->params.*field = value;
    return Status();
  });
}

}  // namespace

extern "C" {

flexq_status flexq_sampling_create(flexq_sampling** sampling) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(sampling);
    *sampling = new flexq_sampling;
    return Status();
  });
}

void flexq_sampling_release(flexq_sampling* sampling) {
  flexq::api::drop_reference(sampling);
}

flexq_status flexq_sampling_set_temperature(flexq_sampling* sampling, float temperature) {
  return set_in_range(sampling, &flexq::SamplingParams::temperature, 0.0f, kMaxTemperature,
                      temperature, "temperature");
}

flexq_status flexq_sampling_set_top_k(flexq_sampling* sampling, int32_t top_k) {
  return set_in_range(sampling, &flexq::SamplingParams::top_k, 0, kMaxTopK, top_k, "top_k");
}

flexq_status flexq_sampling_set_top_p(flexq_sampling* sampling, float top_p) {
  return set_in_range(sampling, &flexq::SamplingParams::top_p, 0.0f, 1.0f, top_p, "top_p");
}

flexq_status flexq_sampling_set_min_p(flexq_sampling* sampling, float min_p) {
  return set_in_range(sampling, &flexq::SamplingParams::min_p, 0.0f, 1.0f, min_p, "min_p");
}

flexq_status flexq_sampling_set_seed(flexq_sampling* sampling, uint64_t seed) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(sampling);
    sampling->params.seed = seed;
    return Status();
  });
}

flexq_status flexq_sampling_set_penalties(flexq_sampling* sampling, float repetition,
                                          float presence, float frequency, int32_t penalty_window) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(sampling);
    if (!(repetition > 0.0f && repetition <= kMaxPenalty)) {
      return Status::error(StatusCode::kInvalidArgument,
                           "repetition penalty: expected above 0 to %g, found %g", kMaxPenalty,
                           static_cast<double>(repetition));
    }
    if (!(std::fabs(presence) <= kMaxPenalty)) {
      return flexq::api::invalid_range("presence penalty", -kMaxPenalty, kMaxPenalty, presence);
    }
    if (!(std::fabs(frequency) <= kMaxPenalty)) {
      return flexq::api::invalid_range("frequency penalty", -kMaxPenalty, kMaxPenalty, frequency);
    }
    if (penalty_window < 0) {
      return flexq::api::invalid_range("penalty window", 0, INT32_MAX, penalty_window);
    }
    sampling->params.repetition_penalty = repetition;
    sampling->params.presence_penalty = presence;
    sampling->params.frequency_penalty = frequency;
    sampling->params.penalty_window = penalty_window;
    return Status();
  });
}

flexq_status flexq_sampling_set_logit_bias(flexq_sampling* sampling, int32_t token, float bias) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(sampling);
    if (token < 0) return flexq::api::invalid_range("token", 0, INT32_MAX, token);
    if (std::isnan(bias) || bias == INFINITY) {
      return Status::error(StatusCode::kInvalidArgument,
                           "logit bias: expected a finite number or -infinity, found %g",
                           static_cast<double>(bias));
    }
    sampling->params.set_logit_bias(token, bias);
    return Status();
  });
}

flexq_status flexq_sampling_sample(const flexq_sampling* sampling, const float* logits,
                                   int32_t n_vocab, const int32_t* history, int32_t n_history,
                                   int32_t position, int32_t* token, float* log_prob) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(sampling);
    FLEXQ_REQUIRE(logits);
    FLEXQ_REQUIRE(token);
    if (n_vocab < 1) return flexq::api::invalid_range("n_vocab", 1, INT32_MAX, n_vocab);
    if (n_history < 0) return flexq::api::invalid_range("n_history", 0, INT32_MAX, n_history);
    if (n_history > 0) FLEXQ_REQUIRE(history);
    if (position < 0) return flexq::api::invalid_range("position", 0, INT32_MAX, position);
    const Held held(sampling);
    flexq::Sampler sampler;
    FLEXQ_ASSIGN_OR_RETURN(const flexq::SampledToken sampled,
                           sampler.sample(held->params, {logits, static_cast<size_t>(n_vocab)},
                                          {history, static_cast<size_t>(n_history)}, position));
    *token = sampled.token;
    if (log_prob != nullptr) *log_prob = sampled.log_prob;
    return Status();
  });
}

}  // extern "C"
