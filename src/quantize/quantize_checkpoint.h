// From a Hugging Face checkpoint folder to a bundle.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"
#include "bundle/progress.h"
#include "quantize/auto_policy.h"
#include "quantize/quantize_weights.h"

namespace flexq {

struct QuantizeOptions {
  std::string policy = "flexq";  // a name of precision_policy.h
  int32_t embedding_bits = 16;   // 16 or 8: WeightPrecision
  int32_t lm_head_bits = 16;
  // Empty: kWeighted with a calibration text, which lowers the perplexity of other texts too, and
  // kNone without one.
  std::optional<ScaleSearch> scale_search;
  // Whether channels may be equalized (channel_equalization.h), where that brings the quantized
  // model closer to the unquantized one. Needs a calibration text and a policy with 6-bit
  // activations; auto not under a budget. Empty: only auto, and wherever it can be.
  std::optional<bool> equalize;
  // Needed by auto and by ScaleSearch::kWeighted; with other policies it is analysed all the same.
  std::optional<std::string> calibration_text;
  int32_t calibration_windows = 32;  // at most so many windows of the text are used
  AutoGoal goal;                     // of policy auto
  int n_threads = 0;                 // 0: one per CPU the process may run on
  // Over the bytes of both passes through the weights; with a calibration text these are the last
  // part of the whole.
  ProgressSink progress;
};

// Options by name to what they mean; kUnsupportedValue for an unknown policy, kInvalidArgument for
// options that do not fit each other.
Result<WeightPrecision> weight_precision(const QuantizeOptions& options);

// Quantizes the checkpoint in `checkpoint_dir` and writes a bundle at `output_path`, with the
// tokenizer inside. Memory: a few pieces per thread, never the model; with a calibration text one
// layer and the activations of the text. The same checkpoint and options give the same bytes for
// any number of threads. On any error, and when the progress callback cancels (kCancelled),
// whatever was at `output_path` stays as it was.
Status quantize_checkpoint(const std::string& checkpoint_dir, const std::string& output_path,
                           const QuantizeOptions& options);

}  // namespace flexq
