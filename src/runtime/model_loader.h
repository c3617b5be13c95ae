// From a path, a block of memory or read callbacks to a model that runs.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/byte_source.h"
#include "base/ed25519.h"
#include "base/status.h"
#include "bundle/bundle_reader.h"
#include "device/device_registry.h"
#include "runtime/context.h"
#include "runtime/loaded_model.h"

namespace flexq {

// Where a model comes from, not opened yet. Exactly one of the first four is set.
struct ModelSource {
  std::string path;                       // a bundle file, a checkpoint folder, a tokenizer folder
  std::span<const uint8_t> memory;        // borrowed
  std::shared_ptr<ByteSource> bytes;      // the caller's callbacks
  std::shared_ptr<WeightSource> weights;  // synthetic weights, quantized by `policy`
  std::string policy;
  // Whose signature the bundle must have.
  std::optional<Ed25519PublicKey> required_key;

  enum class Kind { kBundle, kFolder, kSyntheticWeights };
  // kSignature where a key is required of something that is no bundle: only bundles are signed. To
  // be asked once in each use, as a path may lead elsewhere the next time.
  Result<Kind> kind() const;
  // Of kind kBundle.
  Result<std::unique_ptr<Bundle>> open_bundle(const BundleLimits& limits) const;
};

struct LoadOptions {
  std::string device = "auto";
  DeviceOptions device_options;
  int32_t n_threads = 0;  // 0: every processor
  int64_t max_decoded_bytes = int64_t{1} << 40;
};

Result<std::shared_ptr<const LoadedModel>> load_model(const ModelSource& source,
                                                      const LoadOptions& options,
                                                      LoadProgress progress);

struct ModelPlan {
  DeviceDescription device;
  WeightPlan weights;
  ContextPlan context;
};

// What load_model and Context::create with these options would allocate; reads headers only.
Result<ModelPlan> plan_model(const ModelSource& source, const LoadOptions& options,
                             const ContextOptions& context_options);

// The tokenizer alone. kNotFound where the source has none.
Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const ModelSource& source,
                                                        const LoadOptions& options);

}  // namespace flexq
