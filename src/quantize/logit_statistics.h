// Sums over rows of logits that comparisons of models are made of.
#pragma once

#include <cstdint>

namespace flexq {

// ln of the sum of exp(scale * x[i]). Finite x, positive scale. Relative error of the sum about
// 1e-7, in an order that depends on n only.
double log_sum_exp(const float* x, int64_t n, float scale);

// p[i] = exp(scale * x[i] - log_sum)
void softmax(const float* x, int64_t n, float scale, double log_sum, float* p);

// The sum of p[i] * (a[i] - b[i]).
double expected_difference(const float* p, const float* a, const float* b, int64_t n);

}  // namespace flexq
