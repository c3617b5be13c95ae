// Policy "auto": what every layer's activations cost and are worth, measured on a text, and the
// choice of their bits under a goal.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bundle/bundle_directory.h"
#include "bundle/progress.h"
#include "quantize/calibration_text.h"
#include "quantize/equalized_source.h"
#include "quantize/quantize_weights.h"

namespace flexq {

// What auto has to keep to; exactly one is set where there is a choice to make.
struct AutoGoal {
  // Most relative rise of the perplexity over the same weights with unquantized activations.
  std::optional<double> perplexity_budget;
  // Most multiply-accumulates of linear layers with 8-bit activations, as a share of all.
  std::optional<double> a8_fraction;
  bool force = false;  // the best there is where the budget cannot be met

  bool is_set() const { return perplexity_budget.has_value() || a8_fraction.has_value(); }
};

struct AutoChoice {
  std::vector<LayerBits> layer_bits;  // (n_layers); empty without a goal
  BundleCalibration calibration;      // what was measured
  std::vector<BundleEvidence> evidence;
  // What is to be quantized in place of the source, and its scans; null: the source itself.
  std::unique_ptr<EqualizedSource> equalized;
  std::vector<TensorScan> equalized_scans;
};

// Measures `source` on the text: what the inputs look like, what every layer loses alone, what the
// fixed policies and the best mixtures lose end to end; then, with a goal, chooses activation bits
// for `precision`'s 6-bit weights by the divergence of the logits, checked end to end; a budget is
// kept by the rise of the perplexity that was measured or is to be expected, whichever is more.
// Everything but the time it takes is a function of weights, text and goal. With
// ScaleSearch::kWeighted fills in the importance.
//
// Where precision.equalize says so channels are equalized for the policy's bits, or those that auto
// would choose, and stay so if the logits of the quantized model then diverge less on the text;
// choices are made, and fixed policies measured, on what is then quantized. Not for policies
// without 6-bit activations, where there is no clear gain, nor under a budget, which is a promise
// against w6a16, whose weights are not equalized.
//
// kBudgetNotMet, with the best that was reached, where all layers at 8 bits lose more than the
// budget allows and force is off; kNonFinite, kCancelled.
Result<AutoChoice> analyze_precision(WeightSource& source, const std::vector<TensorScan>& scans,
                                     const CalibrationText& text, const AutoGoal& goal,
                                     WeightPrecision& precision, ThreadPool& pool,
                                     const ProgressSink& progress);

}  // namespace flexq
