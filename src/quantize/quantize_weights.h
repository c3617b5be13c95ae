// From any source of unquantized weights to a bundle, by a precision policy.
#pragma once

#include <string>

#include "base/thread_pool.h"
#include "bundle/bundle_writer.h"
#include "bundle/progress.h"
#include "model/weight_source.h"
#include "quantize/precision_policy.h"

namespace flexq {

// Writes the weights of `source` at `output_path`. `contents` brings sections, chat template and
// provenance; its config, policy and tensors are filled in here. Linear layers follow the policy;
// all other tensors, and linear layers under a policy without quantization, keep the source's
// type, except that F32 matrices become F16 where every value fits. Reads the source twice.
// kNonFinite for NaN or infinity, kLimitExceeded for weights too large to quantize, kCancelled.
Status quantize_weights(WeightSource& source, const PrecisionPolicy& policy,
                        BundleContents contents, const std::string& output_path, ThreadPool& pool,
                        const ProgressSink& progress);

}  // namespace flexq
