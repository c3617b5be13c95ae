#include "quantize/quantize_checkpoint.h"

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/floating_point.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "bundle/bundle_format.h"
#include "checkpoint/checkpoint_reader.h"
#include "generated/flexq_build_config.h"
#include "quantize/calibration_text.h"
#include "quantize/precision_policy.h"
#include "quantize/progress_part.h"
#include "quantize/quantize_weights.h"
#include "quantize/tokenizer_section.h"
#include "text/tokenizer.h"
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

Status check_goal(const QuantizeOptions& options) {
  const AutoGoal& goal = options.goal;
  if (options.policy != kAutoPolicy) {
    if (!goal.is_set()) return {};
    return Status::error(StatusCode::kInvalidArgument,
                         "policy %s: expected no perplexity budget and no share of 8-bit work, "
                         "which are for policy auto",
                         options.policy.c_str());
  }
  if (goal.perplexity_budget.has_value() == goal.a8_fraction.has_value())
    return Status::error(
        StatusCode::kInvalidArgument,
        "policy auto: expected a perplexity budget or a share of 8-bit work, found "
        "%s",
        goal.is_set() ? "both" : "neither");
  if (!options.calibration_text)
    return Status::error(StatusCode::kInvalidArgument,
                         "policy auto: expected a calibration text, found none");
  return {};
}

// Where it was asked for, whether channels can be equalized.
Status check_equalization(const QuantizeOptions& options, const PrecisionPolicy& policy) {
  if (!options.equalize.value_or(false)) return {};
  if (!options.calibration_text)
    return Status::error(StatusCode::kInvalidArgument,
                         "equalization: expected a calibration text, found none");
  if (policy.bits_for(LinearKind::kQ) != 6)
    return Status::error(StatusCode::kInvalidArgument,
                         "equalization: expected a policy with 6-bit activations, found %s",
                         options.policy.c_str());
  if (options.goal.perplexity_budget)
    return Status::error(StatusCode::kInvalidArgument,
                         "equalization: expected no perplexity budget, which is kept against the "
                         "weights of w6a16");
  return {};
}

// As weight_precision(), for a checkpoint: auto as well.
Result<WeightPrecision> checkpoint_precision(const QuantizeOptions& options) {
  FLEXQ_RETURN_IF_ERROR(check_goal(options));
  if (options.scale_search == ScaleSearch::kWeighted && !options.calibration_text)
    return Status::error(
        StatusCode::kInvalidArgument,
        "scale search weighted by inputs: expected a calibration text, found none");
  QuantizeOptions fixed = options;
  if (options.policy == kAutoPolicy) fixed.policy = "w6a6";  // until the bits are chosen
  FLEXQ_ASSIGN_OR_RETURN(WeightPrecision precision, weight_precision(fixed));
  FLEXQ_RETURN_IF_ERROR(check_equalization(options, precision.policy));
  if (options.policy == kAutoPolicy) {
    precision.policy.name = kAutoPolicy;
    precision.equalize = options.equalize.value_or(!options.goal.perplexity_budget);
  }
  return precision;
}

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// The part of the work that the analysis is taken for: what comes before and after reads and writes
// weights once.
constexpr int64_t kAnalysisBegin = kProgressUnits / 100;
constexpr int64_t kAnalysisEnd = kProgressUnits - kAnalysisBegin;

// Quantizing as the calibration text asks for.
Status quantize_calibrated(WeightSource& source, const CalibrationText& text,
                           const QuantizeOptions& options, WeightPrecision precision,
                           BundleContents contents, const std::string& output_path,
                           ThreadPool& pool) {
  FLEXQ_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(output_path));
  ProgressPart scan(options.progress, 0, 2 * kAnalysisBegin);  // ends in the middle
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<TensorScan> scans,
                         scan_weights(source, pool, scan.sink()));
  ProgressPart analysis(options.progress, kAnalysisBegin, kAnalysisEnd);
  FLEXQ_ASSIGN_OR_RETURN(AutoChoice choice, analyze_precision(source, scans, text, options.goal,
                                                              precision, pool, analysis.sink()));
  choice.calibration.text_sha256 = sha256(bytes_of(*options.calibration_text));
  precision.layer_bits = std::move(choice.layer_bits);
  contents.provenance.evidence = std::move(choice.evidence);
  contents.provenance.calibration = std::move(choice.calibration);
  ProgressPart write(options.progress, kAnalysisEnd - kAnalysisBegin, kProgressUnits);
  if (choice.equalized != nullptr)
    return write_weights(*choice.equalized, choice.equalized_scans, precision, std::move(contents),
                         std::move(file), pool, write.sink());
  return write_weights(source, scans, precision, std::move(contents), std::move(file), pool,
                       write.sink());
}

}  // namespace

Result<WeightPrecision> weight_precision(const QuantizeOptions& options) {
  WeightPrecision precision;
  FLEXQ_ASSIGN_OR_RETURN(precision.policy, find_precision_policy(options.policy));
  precision.scale_search = options.scale_search.value_or(
      options.calibration_text ? ScaleSearch::kWeighted : ScaleSearch::kNone);
  precision.equalize = options.equalize.value_or(false);
  precision.embedding_bits = options.embedding_bits;
  precision.lm_head_bits = options.lm_head_bits;
  return precision;
}

Status quantize_checkpoint(const std::string& checkpoint_dir, const std::string& output_path,
                           const QuantizeOptions& options) {
  const DefaultFloatingPoint environment;
  FLEXQ_ASSIGN_OR_RETURN(WeightPrecision precision, checkpoint_precision(options));
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
  CalibrationText text;
  if (options.calibration_text) {
    FLEXQ_ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> encoder,
                           Tokenizer::create(tokenizer.data));
    FLEXQ_ASSIGN_OR_RETURN(text, make_calibration_text(*encoder, *options.calibration_text,
                                                       checkpoint->config().context_tokens,
                                                       options.calibration_windows));
  }

  BundleContents contents;
  contents.sections.push_back({kTokenizerSection, section});
  contents.chat_template = std::move(tokenizer.chat_template);
  contents.provenance.tool_version = "flexq " FLEXQ_VERSION_STRING;
  contents.provenance.source = base_name(checkpoint_dir);
  contents.provenance.source_config_json = checkpoint->config_json();

  ThreadPool pool(options.n_threads > 0 ? options.n_threads : available_cpus());
  if (!options.calibration_text)
    return quantize_weights(*checkpoint, precision, std::move(contents), output_path, pool,
                            options.progress);
  return quantize_calibrated(*checkpoint, text, options, std::move(precision), std::move(contents),
                             output_path, pool);
}

}  // namespace flexq
