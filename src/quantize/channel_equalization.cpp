#include "quantize/channel_equalization.h"

#include <algorithm>
#include <cmath>

namespace flexq {
namespace {

constexpr int kMostRounds = 4;
// A change has to be worth it.
constexpr double kLeastGain = 1e-6;

// The square of a step of codes of so many bits, for a group whose largest value is 1.
double squared_step(int32_t bits) {
  const double largest_code = (1 << (bits - 1)) - 1;
  return bits == 16 ? 0 : 1 / (largest_code * largest_code);
}

// Magnitudes of one side, tokens or rows of weights ("vectors"), and the largest of each as they
// are scaled now.
class Magnitudes {
 public:
  Magnitudes(int64_t n_vectors, int64_t n_channels)
      : n_vectors_(static_cast<size_t>(n_vectors)),
        values_(n_vectors_ * static_cast<size_t>(n_channels)),
        squares_(static_cast<size_t>(n_channels)),
        largest_(n_vectors_),
        second_(n_vectors_),
        channel_of_largest_(n_vectors_) {}

  void set(size_t vector, size_t channel, float value) {
    values_[channel * n_vectors_ + vector] = std::fabs(value);
    squares_[channel] += double{value} * double{value};
  }
  // Of a channel, over all vectors.
  double sum_of_squares(size_t channel) const { return squares_[channel]; }

  // factors: (n_channels).
  void rescale(std::span<const float> factors) {
    std::fill(largest_.begin(), largest_.end(), 0.0f);
    std::fill(second_.begin(), second_.end(), 0.0f);
    std::fill(channel_of_largest_.begin(), channel_of_largest_.end(), -1);
    for (size_t channel = 0; channel < factors.size(); ++channel) {
      const float* values = values_.data() + channel * n_vectors_;
      for (size_t i = 0; i < n_vectors_; ++i) {
        const float value = values[i] * factors[channel];
        if (value > largest_[i]) {
          second_[i] = largest_[i];
          largest_[i] = value;
          channel_of_largest_[i] = static_cast<int32_t>(channel);
        } else {
          second_[i] = std::max(second_[i], value);
        }
      }
    }
  }

  // The sum over vectors of their largest value's square, with another factor for one channel.
  double sum_of_largest(size_t channel, float factor) const {
    const float* values = values_.data() + channel * n_vectors_;
    double sum = 0;
    for (size_t i = 0; i < n_vectors_; ++i) {
      const float others =
          channel_of_largest_[i] == static_cast<int32_t>(channel) ? second_[i] : largest_[i];
      const double value = std::max(others, values[i] * factor);
      sum += value * value;
    }
    return sum;
  }

 private:
  size_t n_vectors_;
  std::vector<float> values_;  // (n_channels, n_vectors)
  std::vector<double> squares_;
  std::vector<float> largest_;
  std::vector<float> second_;
  std::vector<int32_t> channel_of_largest_;
};

class GroupEqualizer {
 public:
  GroupEqualizer(const ChannelInputs& inputs, int64_t n_channels,
                 std::span<const ChannelReader> readers, int32_t weight_bits)
      : n_channels_(static_cast<size_t>(n_channels)),
        weight_step_(squared_step(weight_bits)),
        inputs_(inputs.n_tokens, n_channels),
        weights_(rows_of(readers), n_channels),
        exponents_(n_channels_),
        input_factors_(n_channels_, 1.0f),
        weight_factors_(n_channels_, 1.0f),
        read_energy_(n_channels_) {
    for (int64_t t = 0; t < inputs.n_tokens; ++t)
      for (size_t j = 0; j < n_channels_; ++j)
        inputs_.set(static_cast<size_t>(t), j, inputs.values[t * inputs.token_stride + index(j)]);
    size_t row = 0;
    for (const ChannelReader& reader : readers) {
      const double step = squared_step(reader.activation_bits);
      for (int64_t n = 0; n < reader.n_rows; ++n, ++row) {
        for (size_t j = 0; j < n_channels_; ++j) {
          const float w = reader.weights[n * reader.row_stride + index(j)];
          weights_.set(row, j, w);
          read_energy_[j] += step * double{w} * double{w};
        }
      }
    }
    rescale();
  }

  std::vector<int8_t> solve() {
    double least = cost_with(0, exponents_[0]);
    bool changed = true;
    for (int round = 0; round < kMostRounds && changed; ++round) {
      changed = false;
      for (size_t j = 0; j < n_channels_; ++j) {
        for (const int change : {1, -1}) {
          const int exponent = exponents_[j] + change;
          if (std::abs(exponent) > kMostEqualization) continue;
          const double cost = cost_with(j, exponent);
          if (!(cost < least * (1 - kLeastGain))) continue;
          least = cost;
          exponents_[j] = static_cast<int8_t>(exponent);
          rescale();
          changed = true;
          break;
        }
      }
    }
    return std::move(exponents_);
  }

 private:
  static int64_t index(size_t channel) { return static_cast<int64_t>(channel); }
  static int64_t rows_of(std::span<const ChannelReader> readers) {
    int64_t n_rows = 0;
    for (const ChannelReader& reader : readers)
      n_rows += reader.n_rows;
    return n_rows;
  }

  // With another exponent for one channel.
  double cost_with(size_t channel, int exponent) const {
    double read = 0;
    double input = 0;
    for (size_t j = 0; j < n_channels_; ++j) {
      const double squared = std::ldexp(1.0, 2 * (j == channel ? exponent : exponents_[j]));
      read += read_energy_[j] * squared;
      input += inputs_.sum_of_squares(j) / squared;
    }
    const double largest_inputs =
        read > 0 ? inputs_.sum_of_largest(channel, std::ldexp(1.0f, -exponent)) : 0;
    return largest_inputs * read +
           weight_step_ * weights_.sum_of_largest(channel, std::ldexp(1.0f, exponent)) * input;
  }

  void rescale() {
    for (size_t j = 0; j < n_channels_; ++j) {
      weight_factors_[j] = std::ldexp(1.0f, exponents_[j]);
      input_factors_[j] = std::ldexp(1.0f, -exponents_[j]);
    }
    inputs_.rescale(input_factors_);
    weights_.rescale(weight_factors_);
  }

  size_t n_channels_;
  double weight_step_;
  Magnitudes inputs_;
  Magnitudes weights_;
  std::vector<int8_t> exponents_;
  std::vector<float> input_factors_;
  std::vector<float> weight_factors_;
  std::vector<double> read_energy_;  // (n_channels) squared weights times their readers' steps
};

}  // namespace

std::vector<int8_t> equalize_group(const ChannelInputs& inputs, int64_t n_channels,
                                   std::span<const ChannelReader> readers, int32_t weight_bits) {
  return GroupEqualizer(inputs, n_channels, readers, weight_bits).solve();
}

}  // namespace flexq
