// What every linear layer of a quantized model is given on the CPU: teacher forcing for kernels of
// other devices, which then see real activations and not those of their own rounding.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/layout/weight_format.h"

namespace flexq::test {

struct LayerInput {
  std::string name;  // of the weight tensor
  WeightFormat format = WeightFormat::kInt6Group;
  int32_t activation_bits = 6;
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  std::vector<int8_t> weights;  // (n_rows, n_cols) codes
  std::vector<int8_t> codes;    // (n_tokens, n_cols padded to 128) quantized input
};

// The quantized linear layers of a bundle in the order of the forward pass, with their inputs when
// the CPU backend computes one pass over `tokens`. Throws std::runtime_error.
std::vector<LayerInput> teacher_forced_inputs(const std::string& bundle_path,
                                              const std::vector<int32_t>& tokens);

}  // namespace flexq::test
