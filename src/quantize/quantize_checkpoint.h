// From a Hugging Face checkpoint folder to a bundle.
#pragma once

#include <string>

#include "base/status.h"
#include "bundle/progress.h"
#include "quantize/quantize_weights.h"

namespace flexq {

struct QuantizeOptions {
  std::string policy = "flexq";  // a name of precision_policy.h
  int32_t embedding_bits = 16;   // 16 or 8: WeightPrecision
  int32_t lm_head_bits = 16;
  int n_threads = 0;      // 0: one per CPU the process may run on
  ProgressSink progress;  // over the bytes of both passes through the weights
};

// Options by name to what they mean; kUnsupportedValue for an unknown policy.
Result<WeightPrecision> weight_precision(const QuantizeOptions& options);

// Quantizes the checkpoint in `checkpoint_dir` and writes a bundle at `output_path`, with the
// tokenizer inside. Memory: a few pieces per thread, never the model. The same checkpoint and
// policy give the same bytes for any number of threads. On any error, and when the progress
// callback cancels (kCancelled), whatever was at `output_path` stays as it was.
Status quantize_checkpoint(const std::string& checkpoint_dir, const std::string& output_path,
                           const QuantizeOptions& options);

}  // namespace flexq
