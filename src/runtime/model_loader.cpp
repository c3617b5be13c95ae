#include "runtime/model_loader.h"

#include <algorithm>

#include "base/file.h"
#include "base/hexadecimal.h"
#include "checkpoint/checkpoint_reader.h"
#include "text/tokenizer_files.h"
#include "text/tokenizer_segment.h"

namespace flexq {
namespace {

Result<std::shared_ptr<const Tokenizer>> tokenizer_of_bundle(Bundle& bundle) {
  FLEXQ_ASSIGN_OR_RETURN(const HostBuffer bytes, bundle.read_section(kTokenizerSection));
  Result<TokenizerData> data = parse_tokenizer(bytes.span());
  if (!data.ok()) return std::move(data).status().with_context(bundle.source_name());
  const std::string* chat_template = bundle.chat_template();
  return Tokenizer::create(std::move(data).value(),
                           chat_template == nullptr ? std::string() : *chat_template);
}

Result<std::shared_ptr<const Tokenizer>> tokenizer_of_directory(const std::string& directory) {
  FLEXQ_ASSIGN_OR_RETURN(TokenizerFiles files, read_tokenizer_directory(directory));
  return Tokenizer::create(std::move(files.data), std::move(files.chat_template).value_or(""));
}

BundleLimits bundle_limits(const LoadOptions& options) {
  BundleLimits limits;
  limits.max_decoded_bytes = options.max_decoded_bytes;
  return limits;
}

// A model's weights with what else its source says.
struct OpenedModel {
  std::shared_ptr<WeightSource> weights;
  std::string policy = "none";
  std::shared_ptr<const Tokenizer> tokenizer;
};

enum class WithTokenizer : bool { kNo = false, kYes = true };

Result<OpenedModel> open_model(const ModelSource& source, const LoadOptions& options,
                               WithTokenizer with_tokenizer) {
  OpenedModel opened;
  FLEXQ_ASSIGN_OR_RETURN(const ModelSource::Kind kind, source.kind());
  if (kind == ModelSource::Kind::kSyntheticWeights) {
    opened.weights = source.weights;
    opened.policy = source.policy;
  } else if (kind == ModelSource::Kind::kFolder) {
    FLEXQ_ASSIGN_OR_RETURN(opened.weights, Checkpoint::open(source.path));
    // A checkpoint without tokenizer files still runs on token ids.
    FLEXQ_ASSIGN_OR_RETURN(const bool has_tokenizer, has_tokenizer_files(source.path));
    if (with_tokenizer == WithTokenizer::kYes && has_tokenizer) {
      FLEXQ_ASSIGN_OR_RETURN(opened.tokenizer, tokenizer_of_directory(source.path));
    }
  } else {
    FLEXQ_ASSIGN_OR_RETURN(std::unique_ptr<Bundle> bundle,
                           source.open_bundle(bundle_limits(options)));
    opened.policy = bundle->policy();
    if (with_tokenizer == WithTokenizer::kYes && bundle->has_section(kTokenizerSection)) {
      FLEXQ_ASSIGN_OR_RETURN(opened.tokenizer, tokenizer_of_bundle(*bundle));
    }
    opened.weights = std::move(bundle);
  }
  const int32_t n_vocab = opened.weights->config().n_vocab;
  if (opened.tokenizer != nullptr && opened.tokenizer->n_vocab() > n_vocab) {
    return Status::error(StatusCode::kUnsupportedModel,
                         "tokenizer: expected at most %d pieces (the model's vocabulary), found %d",
                         n_vocab, opened.tokenizer->n_vocab());
  }
  return opened;
}

int32_t resolve_threads(int32_t n_threads) {
  return std::min(n_threads > 0 ? n_threads : available_cpus(), ThreadPool::kMaxThreads);
}

}  // namespace

Result<ModelSource::Kind> ModelSource::kind() const {
  Kind kind = Kind::kBundle;
  if (weights != nullptr) kind = Kind::kSyntheticWeights;
  if (!path.empty() && is_directory(path)) kind = Kind::kFolder;
  if (!required_key || kind == Kind::kBundle) return kind;
  return Status::error(StatusCode::kSignature,
                       "%s: expected a bundle signed with the key %s, found %s, which has no "
                       "signature",
                       path.empty() ? "source" : path.c_str(), hexadecimal(*required_key).c_str(),
                       kind == Kind::kFolder ? "a folder" : "synthetic weights");
}

Result<std::unique_ptr<Bundle>> ModelSource::open_bundle(const BundleLimits& limits) const {
  std::unique_ptr<ByteSource> opened;
  if (bytes != nullptr) {
    opened = share_source(bytes);
  } else if (memory.data() != nullptr) {
    opened = make_memory_source(memory);
  } else {
    FLEXQ_ASSIGN_OR_RETURN(opened, open_file_source(path));
  }
  return Bundle::open(std::move(opened), limits, required_key);
}

Result<std::shared_ptr<const LoadedModel>> load_model(const ModelSource& source,
                                                      const LoadOptions& options,
                                                      LoadProgress progress) {
  FLEXQ_ASSIGN_OR_RETURN(std::shared_ptr<Device> device,
                         open_device(options.device, options.device_options));
  FLEXQ_ASSIGN_OR_RETURN(OpenedModel opened, open_model(source, options, WithTokenizer::kYes));
  auto model = std::make_shared<LoadedModel>();
  model->pool = std::make_unique<ThreadPool>(resolve_threads(options.n_threads));
  FLEXQ_ASSIGN_OR_RETURN(
      model->llama, LlamaModel::load(*opened.weights, std::move(device), *model->pool, progress));
  model->rope = RopeTable(model->llama->config());
  model->tokenizer = std::move(opened.tokenizer);
  model->policy = std::move(opened.policy);
  return std::shared_ptr<const LoadedModel>(std::move(model));
}

Result<ModelPlan> plan_model(const ModelSource& source, const LoadOptions& options,
                             const ContextOptions& context_options) {
  FLEXQ_ASSIGN_OR_RETURN(std::shared_ptr<Device> device,
                         open_device(options.device, options.device_options));
  FLEXQ_ASSIGN_OR_RETURN(OpenedModel opened, open_model(source, options, WithTokenizer::kNo));
  ModelPlan plan;
  plan.device = device->describe();
  FLEXQ_ASSIGN_OR_RETURN(plan.weights, plan_weights(*device, opened.weights->tensors()));
  FLEXQ_ASSIGN_OR_RETURN(
      plan.context,
      plan_context(*device, opened.weights->config(), opened.weights->tensors(),
                   opened.policy != "none", resolve_threads(options.n_threads), context_options));
  return plan;
}

Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const ModelSource& source,
                                                        const LoadOptions& options) {
  FLEXQ_ASSIGN_OR_RETURN(const ModelSource::Kind kind, source.kind());
  if (kind == ModelSource::Kind::kFolder) return tokenizer_of_directory(source.path);
  if (kind == ModelSource::Kind::kSyntheticWeights)
    return Status::error(StatusCode::kNotFound, "a synthetic model has no tokenizer");
  FLEXQ_ASSIGN_OR_RETURN(std::unique_ptr<Bundle> bundle,
                         source.open_bundle(bundle_limits(options)));
  return tokenizer_of_bundle(*bundle);
}

}  // namespace flexq
