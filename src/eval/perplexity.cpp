#include "eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace flexq {
namespace {

// Rows of logits computed at once: enough for the lm_head to be read once per many tokens, while a
// vocabulary of 128,000 stays at 32 MiB.
constexpr int32_t kLogitRows = 64;

}  // namespace

Result<PerplexityResult> evaluate_perplexity(
    std::shared_ptr<const LoadedModel> model, std::string_view text, int32_t window_tokens,
    int32_t max_windows, FunctionRef<bool(int32_t, int32_t, double)> after_window,
    ContextOptions options) {
  if (model->tokenizer == nullptr) {
    return Status::error(StatusCode::kNotFound, "perplexity: the model has no tokenizer");
  }
  const int32_t trained = model->llama->config().context_tokens;
  if (window_tokens < 2 || window_tokens > trained) {
    return Status::error(StatusCode::kInvalidArgument, "window: expected 2 to %d tokens, found %d",
                         trained, window_tokens);
  }
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, model->tokenizer->encode(text));
  int64_t n_windows = static_cast<int64_t>(tokens.size()) / window_tokens;
  if (n_windows == 0) {
    return Status::error(StatusCode::kInvalidArgument,
                         "text: expected at least one window of %d tokens, found %zu tokens",
                         window_tokens, tokens.size());
  }
  if (max_windows > 0) n_windows = std::min<int64_t>(n_windows, max_windows);

  options.context_tokens = window_tokens;
  options.n_sequences = 1;
  options.cache_tokens = 0;
  options.n_outputs = kLogitRows;
  FLEXQ_ASSIGN_OR_RETURN(const std::shared_ptr<Context> context,
                         Context::create(std::move(model), options));
  PerplexityResult result;
  result.n_windows = static_cast<int32_t>(n_windows);
  result.n_tokens = static_cast<int64_t>(tokens.size());
  std::vector<float> log_probs(static_cast<size_t>(window_tokens - 1));
  double total_nll = 0;
  for (int32_t window = 0; window < result.n_windows; ++window) {
    const auto begin = static_cast<size_t>(int64_t{window} * window_tokens);
    FLEXQ_RETURN_IF_ERROR(
        context->score(std::span(tokens).subspan(begin, static_cast<size_t>(window_tokens)),
                       log_probs.data(), [](int64_t, int64_t) { return false; }));
    double window_nll = 0;
    for (const float log_prob : log_probs)
      window_nll -= log_prob;
    window_nll /= static_cast<double>(log_probs.size());
    total_nll += window_nll;
    if (after_window(window, result.n_windows, window_nll)) {
      return Status::error(StatusCode::kCancelled,
                           "perplexity was cancelled after %d of %d windows", window + 1,
                           result.n_windows);
    }
  }
  result.mean_nll = total_nll / result.n_windows;
  result.perplexity = std::exp(result.mean_nll);
  return result;
}

}  // namespace flexq
