#include "quantize/auto_policy.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <utility>

#include "quantize/equalizer.h"
#include "quantize/input_statistics.h"
#include "quantize/likelihood_ratio.h"
#include "quantize/precision_search.h"
#include "quantize/quantized_source.h"
#include "quantize/run_losses.h"
#include "quantize/sensitivity.h"
#include "quantize/temperature.h"

namespace flexq {
namespace {

constexpr int32_t kNarrowBits = 6;
constexpr int32_t kWideBits = 8;
// Points of the front that are measured: mixtures with 1/8, 2/8, .. of the work at 8 bits.
constexpr int64_t kFrontParts = 8;
// Under a share: how many exchanges are measured in a round, and for how many rounds the best one
// may win.
constexpr size_t kExchanges = 6;
constexpr int kExchangeRounds = 3;
// Under a budget: costs tried in a round between one that keeps it and one that does not, and
// rounds. Together they tell 1 / 8 / 4^3 of all work apart.
constexpr int64_t kBudgetParts = 4;
constexpr int kBudgetRounds = 3;

LogitLoss sum_of(const std::vector<LogitLoss>& windows) {
  LogitLoss sum;
  for (const LogitLoss& window : windows)
    sum.add(window);
  return sum;
}

MeasuredPrecision measured(const char* name, double a8_share, const LogitLoss& loss) {
  return {name, a8_share, std::exp(loss.nll()), loss.kl(), loss.expected_rise()};
}

// One analysis from the first pass over the text to the choice.
class Analysis {
 public:
  Analysis(WeightSource& source, const CalibrationText& text, const AutoGoal& goal, bool equalizes,
           ThreadPool& pool, const ProgressSink& progress)
      : source_(source),
        text_(text),
        goal_(goal),
        equalizes_(equalizes),
        pool_(pool),
        progress_(progress),
        n_layers_(source.config().n_layers) {
    // Inputs of the source, its temperature, equalizations, and inputs between two of them.
    const int64_t n_passes = 2 + most_equalizations() + std::max(most_equalizations() - 1, 0);
    n_steps_ = n_passes * input_steps(n_layers_, text.n_windows()) +
               sensitivity_steps(n_layers_, text.n_windows()) +
               run_steps(n_layers_, text.n_windows(), most_runs());
  }

  Result<AutoChoice> run(const std::vector<TensorScan>& scans, WeightPrecision& precision) {
    FLEXQ_ASSIGN_OR_RETURN(walk_, LayerWalk::create(source_, text_.window_tokens, pool_));
    FLEXQ_ASSIGN_OR_RETURN(inputs_,
                           measure_inputs(*walk_, source_, text_, pool_, [&] { return step(); }));
    FLEXQ_RETURN_IF_ERROR(fit_temperature());
    FLEXQ_ASSIGN_OR_RETURN(sensitivity_, measure_sensitivity(*walk_, source_, text_, kNarrowBits,
                                                             [&] { return step(); }));
    set_items(inputs_);
    FLEXQ_RETURN_IF_ERROR(open_weights(source_, scans, precision, {}, weights_));
    if (equalizes_) FLEXQ_RETURN_IF_ERROR(equalize(precision));
    FLEXQ_RETURN_IF_ERROR(measure_policies());
    if (goal_.a8_fraction) FLEXQ_RETURN_IF_ERROR(choose_within_share(*goal_.a8_fraction));
    if (goal_.perplexity_budget) FLEXQ_RETURN_IF_ERROR(choose_within_budget());
    FLEXQ_RETURN_IF_ERROR(progress_.report(n_steps_, n_steps_));
    precision.importance = std::move(weights_.importance);
    return take_choice();
  }

 private:
  // Weights in 6 and 8 bits, with the scales that the bundle will have.
  struct QuantizedWeights {
    std::vector<std::vector<float>> importance;  // WeightPrecision::importance; they refer to it
    std::unique_ptr<QuantizedSource> in_6_bits;
    std::unique_ptr<QuantizedSource> in_8_bits;

    WeightSource* in(int32_t bits) const {
      return bits == kNarrowBits ? in_6_bits.get() : in_8_bits.get();
    }
  };

  // A set of wide layers, measured with quantized weights.
  struct Mixture {
    WideSet wide;
    LogitLoss loss;
  };

  // A second one for what layers get after the first, where bits are chosen.
  int32_t most_equalizations() const {
    if (!equalizes_) return 0;
    return goal_.is_set() ? 2 : 1;
  }
  size_t most_runs() const {
    size_t n_runs = 1 + std::size(kMeasured) + static_cast<size_t>(kFrontParts);
    n_runs += 2 * static_cast<size_t>(most_equalizations());
    if (goal_.a8_fraction) n_runs += 2 + kExchangeRounds * kExchanges;
    if (goal_.perplexity_budget) n_runs += kBudgetRounds * static_cast<size_t>(kBudgetParts);
    return n_runs;
  }

  // The last step is reported by run(): the search may need fewer than were counted.
  Status step() {
    done_steps_ = std::min(done_steps_ + 1, n_steps_ - 1);
    return progress_.report(done_steps_, n_steps_);
  }

  // How sure of itself the unquantized model may be: the temperature at which it predicts the text
  // best.
  Status fit_temperature() {
    FLEXQ_ASSIGN_OR_RETURN(const float inverse_temperature,
                           fit_inverse_temperature(*walk_, source_, text_, [&] { return step(); }));
    walk_->set_inverse_temperature(inverse_temperature);
    return {};
  }

  // The mean squares of what every linear reads, whose channels are equalized or, with an empty
  // list, are not.
  std::vector<std::vector<float>> importance_of(const Equalization& equalization) const {
    std::vector<std::vector<float>> importance(source_.tensors().size());
    for (size_t i = 0; i < source_.tensors().size(); ++i) {
      const TensorSpec& spec = source_.tensors()[i].spec;
      if (spec.role != TensorRole::kLinear) continue;
      const auto layer = static_cast<size_t>(spec.layer);
      importance[i] = inputs_[layer].of(spec.linear_kind).second_moment;
      if (equalization.empty()) continue;
      const auto point = static_cast<size_t>(input_point(spec.linear_kind));
      const std::vector<int8_t>& exponents = equalization[layer][point];
      for (size_t channel = 0; channel < exponents.size(); ++channel)
        importance[i][channel] = std::ldexp(importance[i][channel], -2 * exponents[channel]);
    }
    return importance;
  }

  // `equalization`: of the source, where it is.
  Status open_weights(WeightSource& source, const std::vector<TensorScan>& scans,
                      const WeightPrecision& precision, const Equalization& equalization,
                      QuantizedWeights& weights) const {
    weights = {};
    WeightPrecision fixed = precision;
    fixed.layer_bits.clear();
    // The embedding and lm_head of a walk are the unquantized ones.
    fixed.embedding_bits = fixed.lm_head_bits = 16;
    if (precision.scale_search == ScaleSearch::kWeighted)
      weights.importance = importance_of(equalization);
    const auto open = [&](const char* policy, std::unique_ptr<QuantizedSource>& out) -> Status {
      FLEXQ_ASSIGN_OR_RETURN(fixed.policy, find_precision_policy(policy));
      FLEXQ_ASSIGN_OR_RETURN(std::vector<RowConversion> conversions,
                             plan_conversions(source, scans, fixed));
      for (size_t i = 0; i < weights.importance.size(); ++i)
        if (!weights.importance[i].empty())
          conversions[i].importance = weights.importance[i].data();
      out = std::make_unique<QuantizedSource>(source, std::move(conversions));
      return {};
    };
    FLEXQ_RETURN_IF_ERROR(open("w6a16", weights.in_6_bits));
    return open("w8a16", weights.in_8_bits);
  }

  // The bits that layers would have if sensitivities were all there is to know.
  std::vector<LayerBits> likely_bits(const PrecisionPolicy& policy) const {
    if (goal_.a8_fraction) return bits_of(front_->best_within(max_cost(*goal_.a8_fraction)));
    return std::vector<LayerBits>(static_cast<size_t>(n_layers_), policy.activation_bits);
  }

  // Equalizes the channels. What layers ask for is another thing afterwards, and so may be the best
  // factors for what they then get.
  Status equalize(const WeightPrecision& precision) {
    const std::vector<LayerBits> before = likely_bits(precision.policy);
    FLEXQ_RETURN_IF_ERROR(try_equalization(precision, before));
    if (!goal_.is_set() || equalized_ == nullptr) return {};
    FLEXQ_ASSIGN_OR_RETURN(
        const std::vector<LayerInputs> inputs,
        measure_inputs(*walk_, *equalized_, text_, pool_, [&] { return step(); }));
    set_items(inputs);
    const std::vector<LayerBits> after = likely_bits(precision.policy);
    return after == before ? Status() : try_equalization(precision, after);
  }

  // Equalizes the source for these bits, and quantizes that if it then diverges less with them than
  // what is quantized so far.
  Status try_equalization(const WeightPrecision& precision, const std::vector<LayerBits>& bits) {
    const int32_t weight_bits = precision.policy.weight_bits;
    FLEXQ_ASSIGN_OR_RETURN(Equalization equalization,
                           find_equalization(*walk_, source_, text_, bits, weight_bits, pool_,
                                             [&] { return step(); }));
    auto equalized = std::make_unique<EqualizedSource>(source_, std::move(equalization));
    FLEXQ_ASSIGN_OR_RETURN(std::vector<TensorScan> scans,
                           scan_weights(*equalized, pool_, ProgressSink{}));
    QuantizedWeights weights;
    FLEXQ_RETURN_IF_ERROR(
        open_weights(*equalized, scans, precision, equalized->equalization(), weights));
    const PrecisionRun runs[] = {{weights_.in(weight_bits), bits}, {weights.in(weight_bits), bits}};
    FLEXQ_ASSIGN_OR_RETURN(const std::vector<LogitLoss> losses, losses_of(runs));
    if (losses[1].kl() >= losses[0].kl()) return {};
    weights_ = std::move(weights);
    equalized_ = std::move(equalized);
    equalized_scans_ = std::move(scans);
    return {};
  }

  // `inputs`: of the source, or of the equalized source. What a layer loses there is not measured
  // once more: divergence grows with the square of small errors, so it is the source's, times the
  // part of the layer's output error that is left. (Measured, it was 0.8 to 1.2 times that in a
  // model whose layers differ by a factor of 100.)
  void set_items(const std::vector<LayerInputs>& inputs) {
    items_.clear();
    for (const StoredTensor& tensor : source_.tensors()) {
      const TensorSpec& spec = tensor.spec;
      if (spec.role != TensorRole::kLinear) continue;
      const auto layer = static_cast<size_t>(spec.layer);
      const auto kind = static_cast<size_t>(spec.linear_kind);
      const double before = inputs_[layer].output_error[kind];
      const double part = before > 0 ? inputs[layer].output_error[kind] / before : 1.0;
      const double divergence = sensitivity_[layer * kLinearKinds + kind].kl();
      items_.push_back({spec.rows * spec.cols, divergence * part});
    }
    front_.emplace(items_);
  }

  std::vector<LayerBits> bits_of(const WideSet& wide) const {
    std::vector<LayerBits> bits(static_cast<size_t>(n_layers_));
    for (size_t i = 0; i < wide.size(); ++i)
      bits[i / kLinearKinds][i % kLinearKinds] = wide[i] ? kWideBits : kNarrowBits;
    return bits;
  }

  double share_of(const WideSet& wide) const {
    return static_cast<double>(cost_of(items_, wide)) / static_cast<double>(total_cost(items_));
  }

  int64_t max_cost(double share) const {
    // A share written in decimals is meant, not the number just below.
    constexpr double kSlack = 1e-9;
    return static_cast<int64_t>((share + kSlack) * static_cast<double>(total_cost(items_)));
  }

  WideSet wide_set_of(const PrecisionPolicy& policy) const {
    WideSet wide(items_.size());
    for (size_t i = 0; i < wide.size(); ++i)
      wide[i] = policy.activation_bits[i % kLinearKinds] == kWideBits;
    return wide;
  }

  Result<std::vector<LogitLoss>> losses_of(std::span<const PrecisionRun> runs) {
    FLEXQ_ASSIGN_OR_RETURN(const auto windows,
                           measure_runs(*walk_, source_, text_, runs, [&] { return step(); }));
    std::vector<LogitLoss> losses;
    for (const std::vector<LogitLoss>& run : windows)
      losses.push_back(sum_of(run));
    return losses;
  }

  // Measures sets that were not measured before; all are among mixtures_ afterwards.
  Status measure(const std::vector<WideSet>& sets) {
    std::vector<PrecisionRun> runs;
    std::vector<WideSet> fresh;
    for (const WideSet& set : sets) {
      if (find(set) != nullptr || std::find(fresh.begin(), fresh.end(), set) != fresh.end())
        continue;
      fresh.push_back(set);
      runs.push_back({weights_.in(kNarrowBits), bits_of(set)});
    }
    if (fresh.empty()) return {};
    FLEXQ_ASSIGN_OR_RETURN(const std::vector<LogitLoss> losses, losses_of(runs));
    for (size_t i = 0; i < fresh.size(); ++i)
      mixtures_.push_back({std::move(fresh[i]), losses[i]});
    return {};
  }

  const Mixture* find(const WideSet& wide) const {
    for (const Mixture& mixture : mixtures_)
      if (mixture.wide == wide) return &mixture;
    return nullptr;
  }

  // The unquantized model, every fixed policy, and points of the front.
  Status measure_policies() {
    std::vector<PrecisionRun> runs;
    runs.push_back(
        {&source_, std::vector<LayerBits>(static_cast<size_t>(n_layers_), kUnquantizedInputs)});
    for (const char* name : kMeasured) {
      FLEXQ_ASSIGN_OR_RETURN(const PrecisionPolicy policy, find_precision_policy(name));
      runs.push_back(
          {weights_.in(policy.weight_bits),
           std::vector<LayerBits>(static_cast<size_t>(n_layers_), policy.activation_bits)});
    }
    FLEXQ_ASSIGN_OR_RETURN(const std::vector<LogitLoss> losses, losses_of(runs));
    unquantized_ = losses[0];
    policies_.push_back(measured("unquantized", 0, losses[0]));
    for (size_t i = 0; i < std::size(kMeasured); ++i) {
      FLEXQ_ASSIGN_OR_RETURN(const PrecisionPolicy policy, find_precision_policy(kMeasured[i]));
      const LogitLoss& loss = losses[i + 1];
      const WideSet wide = wide_set_of(policy);
      policies_.push_back(measured(kMeasured[i], share_of(wide), loss));
      const bool is_mixture = policy.weight_bits == kNarrowBits && policy.activation_bits[0] != 16;
      if (is_mixture) mixtures_.push_back({wide, loss});
      if (policy.name == "w6a16") unquantized_inputs_ = loss;
      if (policy.name == "w6a6") all_narrow_ = loss;
    }
    std::vector<WideSet> sets;
    for (int64_t part = 1; part < kFrontParts; ++part)
      sets.push_back(front_->best_within(total_cost(items_) * part / kFrontParts));
    return measure(sets);
  }

  // How much of the expected rise is to be seen in the likelihood, from where both are largest.
  double likelihood_ratio() const {
    return cautious_likelihood_ratio(
        all_narrow_.expected_rise() - unquantized_inputs_.expected_rise(),
        all_narrow_.nll() - unquantized_inputs_.nll(), all_narrow_.kl() - unquantized_inputs_.kl(),
        all_narrow_.n_targets);
  }

  // The relative rise of the perplexity over the same weights with unquantized activations: what
  // was measured, or what is to be expected on other texts, whichever is more. A text of a few ten
  // thousand tokens shows the former to a few hundredths of a percent only.
  double rise_of(const LogitLoss& loss) const {
    const double likelihood = loss.nll() - unquantized_inputs_.nll();
    const double expected = loss.expected_rise() - unquantized_inputs_.expected_rise();
    return std::expm1(std::max(likelihood, expected * likelihood_ratio()));
  }

  // Least divergence within the share: the best set of the additive model, the fixed rule where
  // it fits, and exchanges around whichever is best so far.
  Status choose_within_share(double share) {
    const int64_t limit = max_cost(share);
    FLEXQ_RETURN_IF_ERROR(measure({front_->best_within(limit)}));
    for (int round = 0; round < kExchangeRounds; ++round) {
      const WideSet before = best_mixture(limit).wide;
      FLEXQ_RETURN_IF_ERROR(measure(exchanges(items_, before, limit, kExchanges)));
      if (best_mixture(limit).wide == before) break;
    }
    chosen_ = best_mixture(limit);
    return {};
  }

  // Of all measured mixtures within a cost, the one of least divergence; of equals the first.
  const Mixture& best_mixture(int64_t max_cost) const {
    const Mixture* best = nullptr;
    for (const Mixture& mixture : mixtures_) {
      if (cost_of(items_, mixture.wide) > max_cost) continue;
      if (best == nullptr || mixture.loss.kl() < best->loss.kl()) best = &mixture;
    }
    return *best;  // w6a6 costs nothing
  }

  // The cheapest of all measured mixtures that keeps the budget; null where none does.
  const Mixture* cheapest_within(double budget) const {
    const Mixture* best = nullptr;
    for (const Mixture& mixture : mixtures_) {
      if (rise_of(mixture.loss) > budget) continue;
      if (best == nullptr || cost_of(items_, mixture.wide) < cost_of(items_, best->wide))
        best = &mixture;
    }
    return best;
  }

  // Least cost within the budget: closes in on the cost where the front begins to keep it.
  Status choose_within_budget() {
    const double budget = *goal_.perplexity_budget;
    const Mixture* cheapest = cheapest_within(budget);
    if (cheapest == nullptr) return settle_for_best(budget);
    int64_t kept = cost_of(items_, cheapest->wide);
    int64_t missed = -1;  // the dearest below `kept` that is known to miss it
    for (const Mixture& mixture : mixtures_)
      if (const int64_t cost = cost_of(items_, mixture.wide); cost < kept)
        missed = std::max(missed, cost);
    for (int round = 0; round < kBudgetRounds && missed >= 0; ++round) {
      std::vector<WideSet> sets;
      for (int64_t part = 1; part < kBudgetParts; ++part)
        sets.push_back(front_->best_within(missed + (kept - missed) * part / kBudgetParts));
      FLEXQ_RETURN_IF_ERROR(measure(sets));
      kept = cost_of(items_, cheapest_within(budget)->wide);
      for (const WideSet& set : sets)
        if (const int64_t cost = cost_of(items_, set); cost < kept) missed = std::max(missed, cost);
    }
    chosen_ = *cheapest_within(budget);
    return {};
  }

  Status settle_for_best(double budget) {
    const Mixture* best = &mixtures_.front();
    for (const Mixture& mixture : mixtures_)
      if (rise_of(mixture.loss) < rise_of(best->loss)) best = &mixture;
    if (!goal_.force)
      return Status::error(StatusCode::kBudgetNotMet,
                           "perplexity budget of %.4g %%: the best that 8-bit activations reach on "
                           "the calibration text is %.4g %%, with %.3g %% of the work at 8 bits",
                           100 * budget, 100 * rise_of(best->loss), 100 * share_of(best->wide));
    chosen_ = *best;
    goal_met_ = false;
    return {};
  }

  AutoChoice take_choice() {
    AutoChoice choice;
    BundleCalibration& calibration = choice.calibration;
    calibration.window_tokens = text_.window_tokens;
    calibration.n_windows = text_.n_windows();
    calibration.policies = std::move(policies_);
    if (chosen_) {
      choice.layer_bits = bits_of(chosen_->wide);
      calibration.goal = goal_.a8_fraction ? "a8_fraction" : "perplexity_budget";
      calibration.goal_value = goal_.a8_fraction ? *goal_.a8_fraction : *goal_.perplexity_budget;
      calibration.goal_met = goal_met_;
      calibration.policies.push_back(measured("auto", share_of(chosen_->wide), chosen_->loss));
    }
    for (int64_t part = 0; part <= kFrontParts; ++part) {
      const Mixture* mixture = find(
          part == 0             ? WideSet(items_.size(), false)
          : part == kFrontParts ? WideSet(items_.size(), true)
                                : front_->best_within(total_cost(items_) * part / kFrontParts));
      calibration.front.push_back(measured("", share_of(mixture->wide), mixture->loss));
    }
    add_evidence(choice.evidence);
    choice.equalized = std::move(equalized_);
    choice.equalized_scans = std::move(equalized_scans_);
    return choice;
  }

  void add_evidence(std::vector<BundleEvidence>& evidence) const {
    size_t linear = 0;
    for (const StoredTensor& tensor : source_.tensors()) {
      if (tensor.spec.role != TensorRole::kLinear) continue;
      const std::string& name = tensor.spec.name;
      const LogitLoss& loss = sensitivity_[linear++];
      const LayerInputs& inputs = inputs_[static_cast<size_t>(tensor.spec.layer)];
      const std::vector<float>& group_max = inputs.of(tensor.spec.linear_kind).group_max;
      evidence.push_back({name, "kl_a6", loss.kl(), {}});
      evidence.push_back({name, "nll_rise_a6", loss.nll() - unquantized_.nll(), {}});
      evidence.push_back({name, "expected_rise_a6", loss.expected_rise(), {}});
      evidence.push_back({name,
                          "output_error_a6",
                          inputs.output_error[static_cast<size_t>(tensor.spec.linear_kind)],
                          {}});
      evidence.push_back(
          {name, "input_max", *std::max_element(group_max.begin(), group_max.end()), group_max});
      if (equalized_ == nullptr) continue;
      const auto point = static_cast<size_t>(input_point(tensor.spec.linear_kind));
      const std::vector<int8_t>& exponents =
          equalized_->equalization()[static_cast<size_t>(tensor.spec.layer)][point];
      const auto n_equalized = std::count_if(exponents.begin(), exponents.end(),
                                             [](int8_t exponent) { return exponent != 0; });
      evidence.push_back({name, "equalized_channels", static_cast<double>(n_equalized), {}});
    }
  }

  static constexpr const char* kMeasured[] = {"w6a6", "flexq", "w6a8", "w6a16", "w8a8", "w8a16"};

  WeightSource& source_;
  const CalibrationText& text_;
  const AutoGoal& goal_;
  const bool equalizes_;
  ThreadPool& pool_;
  const ProgressSink& progress_;
  const int32_t n_layers_;
  int64_t n_steps_ = 0;
  int64_t done_steps_ = 0;

  std::unique_ptr<LayerWalk> walk_;
  std::vector<LayerInputs> inputs_;     // (n_layers)
  std::vector<LogitLoss> sensitivity_;  // (n_layers * kLinearKinds), of the source
  std::unique_ptr<EqualizedSource> equalized_;
  std::vector<TensorScan> equalized_scans_;
  QuantizedWeights weights_;          // of the source, or equalized
  std::vector<PrecisionItem> items_;  // (n_layers * kLinearKinds)
  std::optional<PrecisionFront> front_;

  LogitLoss unquantized_;         // of the source itself
  LogitLoss unquantized_inputs_;  // w6a16
  LogitLoss all_narrow_;          // w6a6
  std::vector<MeasuredPrecision> policies_;
  std::vector<Mixture> mixtures_;
  std::optional<Mixture> chosen_;
  bool goal_met_ = true;
};

}  // namespace

Result<AutoChoice> analyze_precision(WeightSource& source, const std::vector<TensorScan>& scans,
                                     const CalibrationText& text, const AutoGoal& goal,
                                     WeightPrecision& precision, ThreadPool& pool,
                                     const ProgressSink& progress) {
  return Analysis(source, text, goal, precision.equalize, pool, progress).run(scans, precision);
}

}  // namespace flexq
