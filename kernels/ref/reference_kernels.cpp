#include "kernels/ref/reference_kernels.h"

#include <cmath>
#include <limits>

namespace flexq::ref {
namespace {

// Ties go to the even integer: the default rounding mode of nearbyint.
double round_half_even(double value) {
  return std::nearbyint(value);
}

double clamp(double value, double lowest, double highest) {
  if (value < lowest) return lowest;
  if (value > highest) return highest;
  return value;
}

}  // namespace

int64_t n_groups(int64_t n_cols) {
  return (n_cols + kGroupSize - 1) / kGroupSize;
}

double half_value(uint16_t bits) {
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  const int exponent = (bits >> 10) & 31;
  const double mantissa = bits & 1023;
  if (exponent == 31) {
    if (mantissa != 0) return std::numeric_limits<double>::quiet_NaN();
    return sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024.0 + mantissa, exponent - 25);
}

uint16_t nearest_half(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  int exponent = -14;  // of the leading bit; all subnormals share the smallest normal's spacing
  if (magnitude >= std::ldexp(1.0, -14)) exponent = std::ilogb(magnitude);
  // Units of the last place, 0 .. 2048; the encoding continues across binades by itself.
  const double units = round_half_even(std::ldexp(magnitude, 10 - exponent));
  const int bits = (exponent + 14) * 1024 + static_cast<int>(clamp(units, 0.0, 4096.0));
  if (bits >= 31 * 1024) return static_cast<uint16_t>(sign | 0x7c00);
  return static_cast<uint16_t>(sign | bits);
}

QuantizedWeights quantize_weights(const float* weights, int64_t n_rows, int64_t n_cols,
                                  float multiplier) {
  const int64_t groups = n_groups(n_cols);
  QuantizedWeights result;
  result.codes.resize(static_cast<size_t>(n_rows * n_cols));
  result.scales.resize(static_cast<size_t>(n_rows * groups));
  for (int64_t n = 0; n < n_rows; ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = g * kGroupSize;
      const int64_t end = begin + kGroupSize < n_cols ? begin + kGroupSize : n_cols;
      float amax = 0;
      for (int64_t k = begin; k < end; ++k) {
        const float magnitude = std::fabs(weights[n * n_cols + k]);
        if (magnitude > amax) amax = magnitude;
      }
      float scale = amax / 31.0f;
      if (scale < 1e-5f) scale = 1e-5f;
      const uint16_t stored = nearest_half(static_cast<double>(scale) / multiplier);
      const float stored_scale = static_cast<float>(half_value(stored)) * multiplier;
      result.scales[static_cast<size_t>(n * groups + g)] = stored;
      for (int64_t k = begin; k < end; ++k) {
        const float quotient = weights[n * n_cols + k] / stored_scale;
        result.codes[static_cast<size_t>(n * n_cols + k)] =
            static_cast<int8_t>(clamp(round_half_even(quotient), -32.0, 31.0));
      }
    }
  }
  return result;
}

QuantizedActivations quantize_activations(const float* x, int64_t n_tokens, int64_t n_cols,
                                          int32_t bits) {
  const int64_t groups = n_groups(n_cols);
  const int32_t code_max = (1 << (bits - 1)) - 1;
  QuantizedActivations result;
  result.codes.resize(static_cast<size_t>(n_tokens * n_cols));
  result.scales.resize(static_cast<size_t>(n_tokens * groups));
  result.sums.resize(static_cast<size_t>(n_tokens * groups));
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = g * kGroupSize;
      const int64_t end = begin + kGroupSize < n_cols ? begin + kGroupSize : n_cols;
      float amax = 0;
      bool all_finite = true;
      for (int64_t k = begin; k < end; ++k) {
        const float magnitude = std::fabs(x[t * n_cols + k]);
        if (!std::isfinite(magnitude)) all_finite = false;
        if (magnitude > amax) amax = magnitude;
      }
      const size_t group_index = static_cast<size_t>(t * groups + g);
      if (!all_finite) {
        result.scales[group_index] = std::numeric_limits<float>::quiet_NaN();
        continue;
      }
      float scale = amax / static_cast<float>(code_max);
      if (scale < 1e-5f) scale = 1e-5f;
      result.scales[group_index] = scale;
      for (int64_t k = begin; k < end; ++k) {
        const float quotient = x[t * n_cols + k] / scale;
        const double code = clamp(round_half_even(quotient), -code_max - 1, code_max);
        result.codes[static_cast<size_t>(t * n_cols + k)] = static_cast<int8_t>(code);
        result.sums[group_index] += static_cast<int32_t>(code);
      }
    }
  }
  return result;
}

std::vector<int32_t> group_dots(const int8_t* x_codes, const int8_t* w_codes, int64_t n_tokens,
                                int64_t n_rows, int64_t n_cols) {
  const int64_t groups = n_groups(n_cols);
  std::vector<int32_t> dots(static_cast<size_t>(n_tokens * n_rows * groups));
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t n = 0; n < n_rows; ++n) {
      for (int64_t k = 0; k < n_cols; ++k) {
        dots[static_cast<size_t>((t * n_rows + n) * groups + k / kGroupSize)] +=
            x_codes[t * n_cols + k] * w_codes[n * n_cols + k];
      }
    }
  }
  return dots;
}

std::vector<double> linear(const QuantizedActivations& x, const QuantizedWeights& w,
                           float multiplier, int64_t n_tokens, int64_t n_rows, int64_t n_cols) {
  const int64_t groups = n_groups(n_cols);
  const std::vector<int32_t> dots =
      group_dots(x.codes.data(), w.codes.data(), n_tokens, n_rows, n_cols);
  std::vector<double> out(static_cast<size_t>(n_tokens * n_rows));
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t n = 0; n < n_rows; ++n) {
      for (int64_t g = 0; g < groups; ++g) {
        const double sx = x.scales[static_cast<size_t>(t * groups + g)];
        const double sw = half_value(w.scales[static_cast<size_t>(n * groups + g)]) * multiplier;
        out[static_cast<size_t>(t * n_rows + n)] +=
            sx * sw * dots[static_cast<size_t>((t * n_rows + n) * groups + g)];
      }
    }
  }
  return out;
}

}  // namespace flexq::ref
