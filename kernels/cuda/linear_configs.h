// Every way in which the kernels can compute a product: what a tuner times, where select_linear()
// takes one. Pure functions, no CUDA header.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda/linear_select.h"

namespace flexq {

// The configurations that give the right result on that GPU from codes in codes_order(), each once;
// select_linear()'s choice is among them. dp4a, which reads all weights for every few tokens, only
// where tokens are few.
std::vector<LinearConfig> linear_configs(const LinearProblem& problem);

// "decode, 4 stages, resident", "prefill 128x64", "wgmma tile 128x128"
std::string config_name(const LinearConfig& config);

// The same but for the reason.
bool is_same_config(const LinearConfig& a, const LinearConfig& b);

}  // namespace flexq
