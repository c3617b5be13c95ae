// The arithmetic of W6Ax quantization, written as plainly as possible on unpacked row-major data.
// It shares no code with the kernels or the quantizer: tests compare both with it. Slow.
#pragma once

#include <cstdint>
#include <vector>

namespace flexq::ref {

inline constexpr int64_t kGroupSize = 128;

int64_t n_groups(int64_t n_cols);

// The value of an fp16 bit pattern (finite ones exactly, infinities and NaN as such).
double half_value(uint16_t bits);

// The fp16 bit pattern nearest to a finite value, ties to even, overflow to infinity.
uint16_t nearest_half(double value);

// codes: (n_rows, n_cols) in [-32, 31]; scales: (n_rows, G) fp16 bit patterns.
struct QuantizedWeights {
  std::vector<int8_t> codes;
  std::vector<uint16_t> scales;
};

// Weights (n_rows, n_cols), per row and group of 128: scale = max|w| / 31, at least 1e-5, stored as
// the fp16 nearest to scale / multiplier; q = clamp(round_half_even(w / stored scale), -32, 31).
// multiplier: a power of two.
QuantizedWeights quantize_weights(const float* weights, int64_t n_rows, int64_t n_cols,
                                  float multiplier);

// codes: (n_tokens, n_cols); scales and sums: (n_tokens, G).
struct QuantizedActivations {
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> sums;
};

// Activations (n_tokens, n_cols), per token and group of 128: scale = max(max|x| / (2^(bits-1)-1),
// 1e-5); q = clamp(round_half_even(x / scale), -2^(bits-1), 2^(bits-1)-1). A group with a value
// that is not finite has codes 0 and scale NaN.
QuantizedActivations quantize_activations(const float* x, int64_t n_tokens, int64_t n_cols,
                                          int32_t bits);

// dots[t, n, g] = sum over the group's columns of qx[t, k] * qw[n, k], exact.
// x_codes: (n_tokens, n_cols); w_codes: (n_rows, n_cols).
std::vector<int32_t> group_dots(const int8_t* x_codes, const int8_t* w_codes, int64_t n_tokens,
                                int64_t n_rows, int64_t n_cols);

// out[t, n] = sum over g of sx[t,g] * sw[n,g] * dots[t,n,g], in double.
std::vector<double> linear(const QuantizedActivations& x, const QuantizedWeights& w,
                           float multiplier, int64_t n_tokens, int64_t n_rows, int64_t n_cols);

}  // namespace flexq::ref
