// Channel equalization: function-preserving powers of two between the producers and the readers of
// activations (Nagel et al., arXiv:1906.04721; SmoothQuant, arXiv:2211.10438), chosen so that less
// is lost when both sides are quantized in groups of 128.
//
//   y = W x = (W S) (S^-1 x)    S = diag(2^e)
//
// A channel whose inputs are large stretches the scale of its whole group; divided by 2^e it does
// not, and its weights, times 2^e, use more of theirs. Powers of two are exact: before quantization
// the model computes the same bits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace flexq {

inline constexpr int32_t kMostEqualization = 6;  // of |e|

// A matrix that reads the channels of one group.
struct ChannelReader {
  const float* weights = nullptr;  // (n_rows, n_channels), the first column that of the group
  int64_t n_rows = 0;
  int64_t row_stride = 0;        // elements
  int32_t activation_bits = 16;  // of its input; 16: not quantized
};

// The same for inputs: tokens of a text.
struct ChannelInputs {
  const float* values = nullptr;  // (n_tokens, n_channels)
  int64_t n_tokens = 0;
  int64_t token_stride = 0;
};

// e of every channel of one group (up to 128), within +-kMostEqualization. Rounding errors count as
// uniform within a step, so the squared error of the outputs is, but for a factor,
//
//   step_x^2 sum_j |w_j|^2 s_j^2 + sum_rows step_w^2 sum_j x_j^2 / s_j^2
//
// with the steps that the largest of the group leave; coordinate descent from e = 0 finds a
// minimum. weight_bits: 6 or 8, of all readers. The same input gives the same result everywhere.
std::vector<int8_t> equalize_group(const ChannelInputs& inputs, int64_t n_channels,
                                   std::span<const ChannelReader> readers, int32_t weight_bits);

}  // namespace flexq
