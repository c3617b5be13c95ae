// From any source of unquantized weights to a bundle, by a precision policy.
#pragma once

#include <string>
#include <vector>

#include "base/file.h"
#include "base/thread_pool.h"
#include "bundle/bundle_writer.h"
#include "bundle/progress.h"
#include "model/weight_source.h"
#include "quantize/precision_policy.h"
#include "quantize/row_converter.h"
#include "quantize/weight_scan.h"

namespace flexq {

// What a bundle is quantized to: the linear layers by policy, the two vocabulary matrices by
// choice.
struct WeightPrecision {
  PrecisionPolicy policy;
  // 16 keeps the source's type, 8 quantizes row by row. Tied embeddings are one matrix: 8 in either
  // place quantizes it.
  int32_t embedding_bits = 16;
  int32_t lm_head_bits = 16;
  // (n_layers) in place of the policy's activation bits; or empty.
  std::vector<LayerBits> layer_bits = {};
  ScaleSearch scale_search = ScaleSearch::kNone;
  // Per tensor of the source, (cols) each: quantize_weight_row(); empty lists: all inputs alike.
  std::vector<std::vector<float>> importance = {};
  bool equalize = false;  // see analyze_precision()
};

// The format and activation bits that `precision` gives a tensor of an unquantized source; the
// scale multiplier is left at 1.
StoredTensor planned_tensor(const StoredTensor& source, const WeightPrecision& precision,
                            bool tied_embeddings);

// What becomes of every tensor of a source that was scanned. Borrows the importance.
Result<std::vector<RowConversion>> plan_conversions(const WeightSource& source,
                                                    const std::vector<TensorScan>& scans,
                                                    const WeightPrecision& precision);

// The second half of quantize_weights(), for a source that was scanned and a file that was created
// before: progress runs from a half to all.
Status write_weights(WeightSource& source, const std::vector<TensorScan>& scans,
                     const WeightPrecision& precision, BundleContents contents, AtomicFile file,
                     ThreadPool& pool, const ProgressSink& progress);

// Writes the weights of `source` at `output_path`. `contents` brings sections, chat template and
// provenance; its config, policy and tensors are filled in here. Linear layers follow the policy,
// embedding and lm_head their bits; all other tensors, and linear layers under a policy without
// quantization, keep the source's type, except that F32 matrices become F16 where every value fits.
// Reads the source twice, once the output's name has shown to be one that can be written: the
// errors of AtomicFile::create come first. kNonFinite for NaN or infinity, kLimitExceeded for
// weights too large to quantize, kCancelled.
Status quantize_weights(WeightSource& source, const WeightPrecision& precision,
                        BundleContents contents, const std::string& output_path, ThreadPool& pool,
                        const ProgressSink& progress);

}  // namespace flexq
