#include "quantize/quantize_checkpoint.h"

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/floating_point.h"
#include "base/thread_pool.h"
#include "bundle/bundle_format.h"
#include "checkpoint/checkpoint_reader.h"
#include "generated/flexq_build_config.h"
#include "quantize/precision_policy.h"
#include "quantize/quantize_weights.h"
#include "quantize/tokenizer_section.h"
#include "text/tokenizer_files.h"
#include "text/utf8.h"

namespace flexq {
namespace {

// The last component of a path, so that no path of this machine enters the bundle.
std::string base_name(std::string_view path) {
  while (!path.empty() && path.back() == '/')
    path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash != std::string_view::npos) path.remove_prefix(slash + 1);
  const bool usable = !path.empty() && path != "." && path != ".." &&
                      path.size() <= size_t{kMaxNameBytes} && is_valid_utf8(path);
  return usable ? std::string(path) : "checkpoint";
}

Status check_chat_template(const std::string& directory, const std::string& chat_template) {
  if (static_cast<int64_t>(chat_template.size()) <= kMaxDirectoryTextBytes) return {};
  return Status::error(StatusCode::kLimitExceeded,
                       "%s: a chat template of %zu bytes, expected at most %lld", directory.c_str(),
                       chat_template.size(), static_cast<long long>(kMaxDirectoryTextBytes));
}

Status check_config_text(const Checkpoint& checkpoint) {
  const std::string& text = checkpoint.config_json();
  if (static_cast<int64_t>(text.size()) > kMaxDirectoryTextBytes)
    return Status::error(StatusCode::kLimitExceeded,
                         "%s: config.json of %zu bytes, expected at most %lld",
                         checkpoint.directory().c_str(), text.size(),
                         static_cast<long long>(kMaxDirectoryTextBytes));
  if (is_valid_utf8(text)) return {};
  return Status::error(StatusCode::kCorrupt, "%s: config.json is not valid UTF-8",
                       checkpoint.directory().c_str());
}

}  // namespace

Result<WeightPrecision> weight_precision(const QuantizeOptions& options) {
  WeightPrecision precision;
  FLEXQ_ASSIGN_OR_RETURN(precision.policy, find_precision_policy(options.policy));
  precision.embedding_bits = options.embedding_bits;
  precision.lm_head_bits = options.lm_head_bits;
  return precision;
}

Status quantize_checkpoint(const std::string& checkpoint_dir, const std::string& output_path,
                           const QuantizeOptions& options) {
  const DefaultFloatingPoint environment;
  FLEXQ_ASSIGN_OR_RETURN(const WeightPrecision precision, weight_precision(options));
  if (options.n_threads < 0)
    return Status::error(StatusCode::kInvalidArgument, "%d threads, expected 0 or more",
                         options.n_threads);
  FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                         Checkpoint::open(checkpoint_dir));
  FLEXQ_RETURN_IF_ERROR(check_config_text(*checkpoint));
  FLEXQ_ASSIGN_OR_RETURN(TokenizerFiles tokenizer, read_tokenizer_directory(checkpoint_dir));
  FLEXQ_ASSIGN_OR_RETURN(
      const std::vector<uint8_t> section,
      make_tokenizer_section(tokenizer.data, checkpoint->config().n_vocab, checkpoint_dir));
  if (tokenizer.chat_template)
    FLEXQ_RETURN_IF_ERROR(check_chat_template(checkpoint_dir, *tokenizer.chat_template));

  BundleContents contents;
  contents.sections.push_back({kTokenizerSection, section});
  contents.chat_template = std::move(tokenizer.chat_template);
  contents.provenance.tool_version = "flexq " FLEXQ_VERSION_STRING;
  contents.provenance.source = base_name(checkpoint_dir);
  contents.provenance.source_config_json = checkpoint->config_json();

  ThreadPool pool(options.n_threads > 0 ? options.n_threads : available_cpus());
  return quantize_weights(*checkpoint, precision, std::move(contents), output_path, pool,
                          options.progress);
}

}  // namespace flexq
