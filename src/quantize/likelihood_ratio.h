// How much of an expected rise of the negative log likelihood a short text shows.
#pragma once

#include <cstdint>

namespace flexq {

// The rise that `measured` is a noisy sample of, as a part of `expected`, with its uncertainty on
// top: one standard deviation. What is expected counts as right to a fifth; what is measured as
// precise as the text is long: `kl` is the divergence that comes with the rise, all three in nats
// per token, over n_targets tokens. 1 where nothing is expected to rise.
double cautious_likelihood_ratio(double expected, double measured, double kl, int64_t n_targets);

}  // namespace flexq
