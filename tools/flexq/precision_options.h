// How the weights of a model that is made here are stored: for quantize, and for the benchmarks of
// models with random weights.
#pragma once

#include "tool_options.h"

namespace flexq_tool {

// As on the command line; the library says which values it takes.
struct PrecisionOptions {
  std::string policy = "flexq";
  std::string embedding_bits = "16";
  std::string lm_head_bits = "16";
};

// The policies, for the help of --policy.
inline constexpr char kPolicyHelp[] =
    "flexq (6-bit weights and activations, down_proj activations 8 bits), w6a6, w6a8, w6a16 "
    "(activations not quantized), w8a8, w8a16, fp16 (nothing quantized)";

// What quantize takes beyond that.
inline constexpr char kAutoPolicyHelp[] =
    ", auto (6-bit weights, activation bits chosen layer by layer: needs --calibration and "
    "--budget-ppl or --a8-fraction)";

// The published shapes, for the help of --shape.
inline constexpr char kShapeHelp[] =
    "tinyllama-1.1b, llama-2-7b, llama-2-13b, llama-2-70b, llama-3-8b, llama-3-70b";

// --embedding-bits and --lm-head-bits.
void add_matrix_bits_options(CLI::App& command, PrecisionOptions& precision);

// Values that the library does not take are wrong usage. Returns an exit code, as all below.
int make_quantize_options(const PrecisionOptions& precision, int32_t n_threads,
                          QuantizeOptions& options);

// A model of random weights with that shape; a shape that does not exist is wrong usage.
int open_synthetic_source(const std::string& shape, const PrecisionOptions& precision,
                          Source& source);

}  // namespace flexq_tool
