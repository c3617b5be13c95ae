#include "serve/served_model.h"

#include <algorithm>
#include <string_view>

#include "terminal_output.h"

namespace flexq_tool {
namespace {

constexpr int32_t kCpuSequences = 8;
constexpr int32_t kCudaSequences = 64;
// Of the memory that is free when the weights are loaded: a GPU is the server's own, the CPU's
// memory is not.
constexpr double kCpuCacheShare = 0.25;
constexpr double kCudaCacheShare = 0.9;

int64_t free_memory_bytes(std::string_view device) {
  flexq_device_info info = {};
  info.struct_size = sizeof info;
  for (int32_t i = 0; i < flexq_device_count(); ++i) {
    if (flexq_device_get_info(i, &info) == FLEXQ_OK && info.id == device) {
      return info.free_memory_bytes;
    }
  }
  return 0;
}

int make_options(const EngineSettings& settings, ContextOptions& options) {
  if (const int code = make_context_options(settings.kv_type, options); code != kExitOk) {
    return code;
  }
  flexq_context_options* o = options.get();
  if (flexq_context_options_set_context_tokens(o, settings.context_tokens) != FLEXQ_OK) {
    return report_usage("--context");
  }
  if (flexq_context_options_set_sequences(o, settings.n_sequences) != FLEXQ_OK) {
    return report_usage("--sequences");
  }
  if (settings.step_tokens > 0 &&
      flexq_context_options_set_chunk_tokens(o, settings.step_tokens) != FLEXQ_OK) {
    return report_usage("--step-tokens");
  }
  if (flexq_context_options_set_cache_tokens(o, settings.cache_tokens) != FLEXQ_OK) {
    return report_usage("--cache-tokens");
  }
  return kExitOk;
}

// As many tokens as free memory holds, up to what all sequences can use.
int choose_cache_tokens(const Source& source, const CommonOptions& common,
                        const flexq_model_info& info, EngineSettings& settings) {
  ModelOptions model_options;
  if (const int code = make_model_options(common, model_options); code != kExitOk) return code;
  ContextOptions options;
  if (const int code = make_options(settings, options); code != kExitOk) return code;
  flexq_plan plan = {};
  plan.struct_size = sizeof plan;
  const flexq_status status =
      flexq_model_plan(source.get(), model_options.get(), options.get(), 0, &plan);
  if (status != FLEXQ_OK) return report_failure("--context", status);
  const double share = plan.kind == FLEXQ_DEVICE_CPU ? kCpuCacheShare : kCudaCacheShare;
  const double n_bytes = share * static_cast<double>(free_memory_bytes(info.device)) -
                         static_cast<double>(plan.workspace_bytes);
  const double n_tokens =
      n_bytes / static_cast<double>(std::max<int64_t>(plan.kv_bytes_per_token, 1));
  const double most = static_cast<double>(plan.n_sequences) * plan.context_tokens;
  settings.cache_tokens = static_cast<int32_t>(
      std::clamp(n_tokens, static_cast<double>(plan.context_tokens), std::min(most, 2e9)));
  return kExitOk;
}

}  // namespace

std::shared_ptr<ServedModel> ServedModel::load(const Source& source, const std::string& name,
                                               const CommonOptions& common,
                                               EngineSettings& settings, EngineTotals& totals,
                                               int& exit_code) {
  std::shared_ptr<ServedModel> served(new ServedModel(totals));
  exit_code = served->create(source, name, common, settings);
  return exit_code == kExitOk ? served : nullptr;
}

ServedModel::~ServedModel() {
  totals_.retire(engine_.get());
}

int ServedModel::create(const Source& source, const std::string& name, const CommonOptions& common,
                        EngineSettings& settings) {
  if (const int code = load_model(source, name, common, model_); code != kExitOk) return code;
  info_.struct_size = sizeof info_;
  flexq_status status = flexq_model_get_info(model_.get(), &info_);
  if (status != FLEXQ_OK) return report_failure(name, status);
  status = flexq_model_tokenizer(model_.get(), Out(tokenizer_));
  if (status != FLEXQ_OK && status != FLEXQ_ERROR_NOT_FOUND) return report_failure(name, status);
  if (settings.n_sequences == 0) {
    settings.n_sequences = std::string_view(info_.device) == "cpu" ? kCpuSequences : kCudaSequences;
  }
  if (settings.cache_tokens == 0) {
    const int code = choose_cache_tokens(source, common, info_, settings);
    if (code != kExitOk) return code;
  }
  return create_engine(settings);
}

int ServedModel::create_engine(const EngineSettings& settings) {
  ContextOptions options;
  if (const int code = make_options(settings, options); code != kExitOk) return code;
  flexq_status status = flexq_context_create(model_.get(), options.get(), Out(context_));
  if (status != FLEXQ_OK) {
    return report_failure("--context, --sequences and --cache-tokens", status);
  }
  plan_.struct_size = sizeof plan_;
  status = flexq_context_get_plan(context_.get(), &plan_);
  if (status != FLEXQ_OK) return report_failure("context", status);
  EngineOptions engine_options;
  status = flexq_engine_options_create(Out(engine_options));
  if (status != FLEXQ_OK) return report_failure("engine options", status);
  if (flexq_engine_options_set_step_tokens(engine_options.get(), settings.step_tokens) !=
      FLEXQ_OK) {
    return report_usage("--step-tokens");
  }
  if (flexq_engine_options_set_queue(engine_options.get(), settings.queue) != FLEXQ_OK) {
    return report_usage("--queue");
  }
  status = flexq_engine_create(context_.get(), engine_options.get(), Out(engine_));
  if (status != FLEXQ_OK) return report_failure("engine", status);
  totals_.add(engine_.get());
  return kExitOk;
}

}  // namespace flexq_tool
