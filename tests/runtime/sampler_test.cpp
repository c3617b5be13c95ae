// Every stage of sampling against a plain computation in double, written from the documented order
// of stages (flexq.h, "Sampling").
#include "runtime/sampler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "runtime/philox.h"

namespace flexq::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Probabilities after all stages but the draw, by token; one of them 1 for temperature 0.
std::vector<double> reference_probabilities(const SamplingParams& params,
                                            const std::vector<float>& logits,
                                            const std::vector<int32_t>& history) {
  const size_t n = logits.size();
  std::vector<double> x(logits.begin(), logits.end());
  for (const auto& [token, bias] : params.logit_bias)
    x[static_cast<size_t>(token)] += bias;
  const auto window = std::min(history.size(), static_cast<size_t>(params.penalty_window));
  for (size_t token = 0; token < n; ++token) {
    const auto count = std::count(history.end() - static_cast<ptrdiff_t>(window), history.end(),
                                  static_cast<int32_t>(token));
    if (count == 0) continue;
    const double repetition = params.repetition_penalty;
    x[token] = x[token] > 0 ? x[token] / repetition : x[token] * repetition;
    x[token] -= params.presence_penalty;
    x[token] -= params.frequency_penalty * static_cast<double>(count);
  }
  std::vector<size_t> order(n);  // most probable first, lower ids first among equals
  for (size_t i = 0; i < n; ++i)
    order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });

  std::vector<double> p(n, 0.0);
  if (params.temperature == 0.0f) {
    p[order[0]] = 1;
    return p;
  }
  if (params.top_k > 0) order.resize(std::min(n, static_cast<size_t>(params.top_k)));
  const auto normalize = [&] {
    double sum = 0;
    std::vector<double> weights;
    for (const size_t token : order) {
      weights.push_back(std::exp((x[token] - x[order[0]]) / params.temperature));
      sum += weights.back();
    }
    for (double& weight : weights)
      weight /= sum;
    return weights;
  };
  std::vector<double> q = normalize();
  size_t kept = order.size();
  while (kept > 1 && q[kept - 1] < params.min_p * q[0])
    --kept;
  order.resize(kept);
  q = normalize();
  if (params.top_p < 1.0f) {
    double reached = 0;
    for (kept = 0; kept < order.size() && (kept == 0 || reached < params.top_p); ++kept)
      reached += q[kept];
    order.resize(kept);
    q = normalize();
  }
  for (size_t i = 0; i < order.size(); ++i)
    p[order[i]] = q[i];
  return p;
}

// The token that a uniform number picks, and whether it lies so close to a border that rounding
// may decide.
struct Draw {
  int32_t token;
  bool on_border;
};
Draw reference_draw(const std::vector<double>& p, double uniform) {
  double reached = 0;
  Draw draw{-1, false};
  for (size_t i = 0; i < p.size(); ++i) {
    reached += p[i];
    if (p[i] > 0 && std::fabs(reached - uniform) < 1e-9) draw.on_border = true;
    if (draw.token < 0 && reached > uniform) draw.token = static_cast<int32_t>(i);
  }
  return draw;
}

std::vector<float> random_logits(std::mt19937& random, size_t n) {
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits;
  for (size_t i = 0; i < n; ++i)
    logits.push_back(normal(random));
  return logits;
}

int32_t sampled(const SamplingParams& params, const std::vector<float>& logits,
                const std::vector<int32_t>& history = {}, int32_t position = 0) {
  Sampler sampler;
  const auto token = sampler.sample(params, logits, history, position);
  REQUIRE_MESSAGE(token.ok(), token.status().message());
  return token->token;
}

StatusCode failure(const SamplingParams& params, const std::vector<float>& logits) {
  Sampler sampler;
  return sampler.sample(params, logits, {}, 0).status().code();
}

// Draws with these parameters agree with the reference for many logits, seeds and positions.
void check_draws(const char* what, SamplingParams params) {
  CAPTURE(std::string(what));
  std::mt19937 random(21);
  Sampler sampler;  // one for all: nothing may stay behind from call to call
  int n_border = 0;
  for (int round = 0; round < 400; ++round) {
    const size_t n = 2 + random() % 300;
    const std::vector<float> logits = random_logits(random, n);
    std::vector<int32_t> history(random() % 90);
    for (int32_t& token : history)
      token = static_cast<int32_t>(random() % n);
    params.seed = (uint64_t{random()} << 32) | random();
    const auto position = static_cast<int32_t>(random() % 100000);
    const Draw expected = reference_draw(reference_probabilities(params, logits, history),
                                         static_cast<double>(uniform_at(params.seed, position)));
    if (expected.on_border) {
      ++n_border;
      continue;
    }
    const auto found = sampler.sample(params, logits, history, position);
    REQUIRE_MESSAGE(found.ok(), found.status().message());
    CAPTURE(round);
    REQUIRE(found->token == expected.token);
  }
  CHECK(n_border < 4);
}

SamplingParams at_temperature(float temperature) {
  SamplingParams params;
  params.temperature = temperature;
  return params;
}

}  // namespace

TEST_CASE("sampling: each stage alone and all together agree with the reference") {
  check_draws("greedy", at_temperature(0.0f));
  check_draws("temperature 1", at_temperature(1.0f));
  check_draws("temperature 0.6", at_temperature(0.6f));
  check_draws("temperature 2.5", at_temperature(2.5f));
  SamplingParams params = at_temperature(1.3f);
  params.top_k = 7;
  check_draws("top-k", params);
  params.top_k = 1000;
  check_draws("top-k beyond the vocabulary", params);
  params = at_temperature(1.3f);
  params.min_p = 0.05f;
  check_draws("min-p", params);
  params = at_temperature(1.3f);
  params.top_p = 0.8f;
  check_draws("top-p", params);
  params = at_temperature(1.0f);
  params.repetition_penalty = 1.7f;
  check_draws("repetition penalty", params);
  params.penalty_window = 5;
  check_draws("repetition penalty over a window", params);
  params.penalty_window = 0;
  check_draws("no window, no penalty", params);
  params = at_temperature(1.0f);
  params.presence_penalty = 2.0f;
  check_draws("presence penalty", params);
  params = at_temperature(1.0f);
  params.frequency_penalty = 0.7f;
  check_draws("frequency penalty", params);
  params = at_temperature(0.0f);
  params.repetition_penalty = 3.0f;
  params.frequency_penalty = 0.5f;
  check_draws("greedy with penalties", params);
  params = at_temperature(1.0f);
  params.set_logit_bias(1, 6.0f);
  params.set_logit_bias(0, -kInfinity);
  check_draws("bias", params);
  params.top_k = 40;
  params.top_p = 0.95f;
  params.min_p = 0.01f;
  params.repetition_penalty = 1.1f;
  params.presence_penalty = 0.1f;
  params.frequency_penalty = 0.1f;
  check_draws("everything", params);
}

TEST_CASE("sampling: tokens that are not allowed do not exist") {
  std::mt19937 random(22);
  Sampler sampler;
  for (int round = 0; round < 400; ++round) {
    const size_t n = 2 + random() % 300;
    const std::vector<float> logits = random_logits(random, n);
    // The same logits with only the allowed tokens, and those tokens' ids.
    std::vector<uint64_t> allowed((n + 63) / 64);
    std::vector<float> kept;
    std::vector<int32_t> ids, new_ids(n, -1);
    for (size_t i = 0; i < n; ++i) {
      if (random() % 3 != 0 && !(i + 1 == n && kept.empty())) continue;
      allowed[i / 64] |= uint64_t{1} << (i % 64);
      new_ids[i] = static_cast<int32_t>(kept.size());
      ids.push_back(static_cast<int32_t>(i));
      kept.push_back(logits[i]);
    }
    std::vector<int32_t> history(random() % 60), new_history;
    for (int32_t& token : history) {
      token = static_cast<int32_t>(random() % n);
      new_history.push_back(new_ids[static_cast<size_t>(token)]);
    }
    SamplingParams params = at_temperature(round % 4 == 0 ? 0.0f : 1.1f);
    params.top_k = round % 3 == 0 ? 5 : 0;
    params.top_p = round % 5 == 0 ? 0.7f : 1.0f;
    params.min_p = round % 7 == 0 ? 0.05f : 0.0f;
    params.repetition_penalty = 1.2f;
    params.frequency_penalty = 0.3f;
    params.seed = random();
    SamplingParams new_params = params;
    for (size_t i = 0; i < n; i += 4) {
      // What is forbidden anyway is not made possible by any bias.
      params.set_logit_bias(static_cast<int32_t>(i), new_ids[i] < 0 ? kInfinity : 1.5f);
      if (new_ids[i] >= 0) new_params.set_logit_bias(new_ids[i], 1.5f);
    }
    CAPTURE(round);
    const auto found = sampler.sample(params, logits, history, round, allowed);
    REQUIRE_MESSAGE(found.ok(), found.status().message());
    const int32_t expected =
        ids[static_cast<size_t>(sampled(new_params, kept, new_history, round))];
    REQUIRE(found->token == expected);
    // Of all tokens, as without the format.
    params = at_temperature(0.0f);
    params.set_logit_bias(found->token, 1e6f);
    REQUIRE(found->log_prob == sampler.sample(params, logits, {}, 0)->log_prob);
  }
  const std::vector<uint64_t> none(1);
  const std::vector<float> logits(10);
  CHECK(sampler.sample(at_temperature(0.0f), logits, {}, 0, none).status().code() ==
        StatusCode::kNonFinite);
}

TEST_CASE("sampling: ties go to the lower id") {
  const std::vector<float> logits = {1.0f, 5.0f, 5.0f, 5.0f, 2.0f};
  CHECK(sampled(at_temperature(0.0f), logits) == 1);
  for (int32_t position = 0; position < 200; ++position) {
    SamplingParams params = at_temperature(1.0f);
    params.top_k = 2;
    CHECK(sampled(params, logits, {}, position) <= 2);
    params.top_k = 0;
    params.top_p = 0.5f;  // 5 and 5 of about 3.06 shares of 5: two reach 0.65
    CHECK(sampled(params, logits, {}, position) <= 2);
    params.top_p = 0.0f;
    CHECK(sampled(params, logits, {}, position) == 1);
    params.top_p = 1.0f;
    params.min_p = 1.0f;
    const int32_t token = sampled(params, logits, {}, position);
    CHECK(token >= 1);
    CHECK(token <= 3);
  }
}

TEST_CASE("sampling: a draw depends on seed and position, not on what was drawn before") {
  std::mt19937 random(4);
  const std::vector<float> logits = random_logits(random, 100);
  SamplingParams params = at_temperature(2.0f);
  params.seed = 1234;
  std::vector<int32_t> forward;
  Sampler sampler;
  for (int32_t position = 0; position < 50; ++position)
    forward.push_back(sampler.sample(params, logits, {}, position)->token);
  for (int32_t position = 49; position >= 0; --position)
    CHECK(sampled(params, logits, {7, 8, 9}, position) == forward[static_cast<size_t>(position)]);
  params.seed = 1235;
  int n_same = 0;
  for (int32_t position = 0; position < 50; ++position)
    n_same += sampled(params, logits, {}, position) == forward[static_cast<size_t>(position)];
  CHECK(n_same < 25);
}

TEST_CASE("sampling: frequencies match the probabilities") {
  std::mt19937 random(8);
  const std::vector<float> logits = random_logits(random, 20);
  SamplingParams params = at_temperature(1.5f);
  params.seed = 99;
  const std::vector<double> p = reference_probabilities(params, logits, {});
  constexpr int kDraws = 20000;
  std::vector<int> counts(logits.size());
  Sampler sampler;
  for (int32_t position = 0; position < kDraws; ++position)
    ++counts[static_cast<size_t>(sampler.sample(params, logits, {}, position)->token)];
  double chi_square = 0;
  int n_cells = 0;
  double rest_expected = 0, rest_found = 0;  // tokens too rare for a cell of their own
  for (size_t i = 0; i < p.size(); ++i) {
    const double expected = p[i] * kDraws;
    if (expected < 10) {
      rest_expected += expected;
      rest_found += counts[i];
      continue;
    }
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++n_cells;
  }
  if (rest_expected > 1) {
    chi_square += (rest_found - rest_expected) * (rest_found - rest_expected) / rest_expected;
    ++n_cells;
  }
  REQUIRE(n_cells > 5);
  // 43.8 is the 0.999 quantile for 19 degrees of freedom, the most there can be.
  CHECK(chi_square < 43.8);
}

TEST_CASE("sampling: log-probabilities are those of the untouched logits") {
  std::mt19937 random(31);
  const std::vector<float> logits = random_logits(random, 500);
  double sum = 0;
  for (const float logit : logits)
    sum += std::exp(static_cast<double>(logit));
  SamplingParams params = at_temperature(0.3f);
  params.top_k = 3;
  params.set_logit_bias(17, 100.0f);
  Sampler sampler;
  const auto token = sampler.sample(params, logits, {}, 5);
  REQUIRE(token.ok());
  CHECK(token->token == 17);
  CHECK(token->log_prob == doctest::Approx(static_cast<double>(logits[17]) - std::log(sum)));

  std::vector<TokenLogProb> alternatives;
  sampler.most_probable(logits, 500, alternatives);
  REQUIRE(alternatives.size() == 500);
  double total = 0;
  for (size_t i = 0; i < alternatives.size(); ++i) {
    total += std::exp(static_cast<double>(alternatives[i].log_prob));
    if (i > 0) CHECK(alternatives[i - 1].log_prob >= alternatives[i].log_prob);
  }
  CHECK(total == doctest::Approx(1.0).epsilon(1e-5));
  sampler.most_probable(logits, 3, alternatives);
  CHECK(alternatives.size() == 3);
}

TEST_CASE("T30_non_finite: sampling refuses NaN, infinity and a vocabulary of forbidden tokens") {
  for (const float temperature : {0.0f, 1.0f}) {
    for (const int32_t top_k : {0, 2}) {
      SamplingParams params = at_temperature(temperature);
      params.top_k = top_k;
      CHECK(failure(params, {0.0f, kNan, 1.0f}) == StatusCode::kNonFinite);
      CHECK(failure(params, {kNan, 2.0f, 1.0f}) == StatusCode::kNonFinite);
      CHECK(failure(params, {0.0f, kInfinity, 1.0f}) == StatusCode::kNonFinite);
      CHECK(failure(params, {-kInfinity, -kInfinity}) == StatusCode::kNonFinite);
      // Minus infinity forbids one token only.
      for (int32_t position = 0; position < 20; ++position)
        CHECK(sampled(params, {-kInfinity, 3.0f, -kInfinity}, {}, position) == 1);
      params.set_logit_bias(0, -kInfinity);
      params.set_logit_bias(1, -kInfinity);
      CHECK(failure(params, {1.0f, 2.0f}) == StatusCode::kNonFinite);
      CHECK(sampled(params, {1.0f, 2.0f, -50.0f}) == 2);
      params.set_logit_bias(3, 1.0f);
      CHECK(failure(params, {1.0f, 2.0f, 3.0f}) == StatusCode::kInvalidArgument);
    }
  }
}

TEST_CASE("T30_non_finite: extreme parameters neither overflow quietly nor draw at random") {
  // logit / temperature alone would be infinite for both large logits.
  for (const float temperature : {1e-30f, 1e-38f, std::numeric_limits<float>::denorm_min()}) {
    for (int32_t position = 0; position < 20; ++position)
      CHECK(sampled(at_temperature(temperature), {50.0f, 90.0f, 80.0f, -1.0f}, {}, position) == 1);
  }
  SamplingParams params = at_temperature(1.0f);
  params.set_logit_bias(0, 3e38f);
  CHECK(failure(params, {3e38f, 1.0f}) == StatusCode::kNonFinite);
  params = at_temperature(1.0f);
  params.repetition_penalty = 1e-38f;
  Sampler sampler;
  const std::vector<float> logits = {5.0f, 8.0f};
  const std::vector<int32_t> history = {0};
  CHECK(sampler.sample(params, logits, history, 0).status().code() == StatusCode::kNonFinite);
}

}  // namespace flexq::test
