#include "quantize/likelihood_ratio.h"

#include <algorithm>
#include <cmath>

namespace flexq {
namespace {

// Standard deviation of the ratio before anything is measured.
constexpr double kPriorDeviation = 0.2;
// Variance of a token's rise over its KL divergence: 2 for small changes under the model's own
// predictions; tokens of a text are not independent, which adds half as much.
constexpr double kVarianceOverKl = 3.0;
// No text promises less than half of what is expected, or more than double.
constexpr double kMinRatio = 0.5;
constexpr double kMaxRatio = 2.0;

}  // namespace

double cautious_likelihood_ratio(double expected, double measured, double kl, int64_t n_targets) {
  if (expected <= 0 || n_targets <= 0) return 1;
  const double variance =
      kVarianceOverKl * std::max(kl, 0.0) / (static_cast<double>(n_targets) * expected * expected);
  // The mean of both, weighted by their precisions.
  constexpr double kPriorVariance = kPriorDeviation * kPriorDeviation;
  const double mean =
      (variance + kPriorVariance * (measured / expected)) / (variance + kPriorVariance);
  const double deviation = std::sqrt(variance * kPriorVariance / (variance + kPriorVariance));
  return std::clamp(mean + deviation, kMinRatio, kMaxRatio);
}

}  // namespace flexq
