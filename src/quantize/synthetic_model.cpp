#include "quantize/synthetic_model.h"

#include <utility>
#include <vector>

#include "base/floating_point.h"
#include "base/thread_pool.h"
#include "generated/flexq_build_config.h"
#include "model/published_shapes.h"
#include "quantize/quantize_weights.h"

namespace flexq {
namespace {

constexpr uint64_t kSeed = 20250808;  // any constant: the same shape gives the same weights

}  // namespace

Result<std::unique_ptr<SyntheticSource>> make_synthetic_model(std::string_view shape,
                                                              const QuantizeOptions& options) {
  FLEXQ_ASSIGN_OR_RETURN(const ModelConfig config, published_shape(shape));
  FLEXQ_ASSIGN_OR_RETURN(const WeightPrecision precision, weight_precision(options));
  std::vector<StoredTensor> tensors = unquantized_tensors(config);
  for (StoredTensor& tensor : tensors)
    tensor = planned_tensor(tensor, precision, config.tied_embeddings);
  return std::make_unique<SyntheticSource>(config, std::move(tensors), kSeed);
}

Status quantize_synthetic_model(std::string_view shape, const std::string& output_path,
                                const QuantizeOptions& options) {
  const DefaultFloatingPoint environment;
  FLEXQ_ASSIGN_OR_RETURN(const ModelConfig config, published_shape(shape));
  FLEXQ_ASSIGN_OR_RETURN(const WeightPrecision precision, weight_precision(options));
  SyntheticSource source(config, unquantized_tensors(config), kSeed);
  BundleContents contents;
  contents.provenance.tool_version = "flexq " FLEXQ_VERSION_STRING;
  contents.provenance.source = "random weights, shape " + std::string(shape);
  ThreadPool pool(options.n_threads > 0 ? options.n_threads : available_cpus());
  return quantize_weights(source, precision, std::move(contents), output_path, pool,
                          options.progress);
}

}  // namespace flexq
