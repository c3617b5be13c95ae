#include "eval/model_comparison.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace flexq {
namespace {

// Positions computed at once by either model, with rows of logits for all of them: 32 MiB for a
// vocabulary of 128,000.
constexpr int32_t kRows = 64;

Status check_models(const LoadedModel& a, const LoadedModel& b) {
  for (const LoadedModel* model : {&a, &b}) {
    if (model->tokenizer == nullptr) {
      return Status::error(StatusCode::kNotFound, "comparison: model %s has no tokenizer",
                           model == &a ? "A" : "B");
    }
  }
  const int32_t n_a = a.llama->config().n_vocab;
  const int32_t n_b = b.llama->config().n_vocab;
  if (n_a == n_b) return Status();
  return Status::error(StatusCode::kInvalidArgument,
                       "model B: expected the %d tokens of model A's vocabulary, found %d", n_a,
                       n_b);
}

// The text's tokens, the same for both models.
Result<std::vector<int32_t>> encode_for_both(const LoadedModel& a, const LoadedModel& b,
                                             std::string_view text) {
  FLEXQ_ASSIGN_OR_RETURN(std::vector<int32_t> tokens_a, a.tokenizer->encode(text));
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens_b, b.tokenizer->encode(text));
  if (tokens_a == tokens_b) return tokens_a;
  const auto [in_a, in_b] =
      std::mismatch(tokens_a.begin(), tokens_a.end(), tokens_b.begin(), tokens_b.end());
  return Status::error(StatusCode::kInvalidArgument,
                       "text: expected the same tokens for both models, found token %lld to differ",
                       static_cast<long long>(in_a - tokens_a.begin()));
}

Result<std::shared_ptr<Context>> make_context(std::shared_ptr<const LoadedModel> model,
                                              int32_t window_tokens, ContextOptions options) {
  options.context_tokens = window_tokens;
  options.n_sequences = 1;
  options.cache_tokens = 0;
  options.n_outputs = kRows;
  return Context::create(std::move(model), options);
}

// Rows of logits behind the tokens, which follow those in the context.
Status decode_all(Context& context, std::span<const int32_t> tokens,
                  std::array<const float*, kRows>& rows) {
  const BatchItem item{0, tokens, OutputRows::kAll};
  FLEXQ_RETURN_IF_ERROR(context.decode({&item, 1}, [] { return Status(); }));
  for (size_t row = 0; row < tokens.size(); ++row) {
    FLEXQ_ASSIGN_OR_RETURN(rows[row], context.logits_row(static_cast<int32_t>(row)));
  }
  return Status();
}

struct Sums {
  double nll_a = 0;
  double nll_b = 0;
  double kl = 0;
};

// Adds up one position after the other, so that sums do not depend on the number of threads.
void add_position(const PositionComparison& position, int32_t target, Sums& sums,
                  ComparisonResult& result) {
  sums.nll_a += position.nll_a;
  sums.nll_b += position.nll_b;
  sums.kl += position.kl;
  ++result.n_positions;
  if (position.top_a == position.top_b) {
    ++result.n_same_top1;
  } else if (position.top_a == target) {
    ++result.n_lost;
  } else if (position.top_b == target) {
    ++result.n_gained;
  }
}

}  // namespace

PositionComparison compare_position(const float* logits_a, const float* logits_b, int32_t n_vocab,
                                    int32_t target) {
  PositionComparison result;
  const float* top_a = std::max_element(logits_a, logits_a + n_vocab);
  const float* top_b = std::max_element(logits_b, logits_b + n_vocab);
  result.top_a = static_cast<int32_t>(top_a - logits_a);
  result.top_b = static_cast<int32_t>(top_b - logits_b);
  double sum_a = 0;  // of exp(logit - largest logit)
  double sum_b = 0;
  double sum_ratio = 0;  // of exp(a - largest a) ((a - largest a) - (b - largest b))
  for (int32_t i = 0; i < n_vocab; ++i) {
    const float a = logits_a[i] - *top_a;
    const float b = logits_b[i] - *top_b;
    const float exp_a = std::exp(a);
    sum_a += static_cast<double>(exp_a);
    sum_b += static_cast<double>(std::exp(b));
    sum_ratio += static_cast<double>(exp_a) * static_cast<double>(a - b);
  }
  const double log_a = std::log(sum_a);
  const double log_b = std::log(sum_b);
  result.nll_a = log_a - static_cast<double>(logits_a[target] - *top_a);
  result.nll_b = log_b - static_cast<double>(logits_b[target] - *top_b);
  result.kl = sum_ratio / sum_a - (log_a - log_b);
  return result;
}

Result<ComparisonResult> compare_models(std::shared_ptr<const LoadedModel> a,
                                        std::shared_ptr<const LoadedModel> b, std::string_view text,
                                        int32_t window_tokens, int32_t max_windows,
                                        FunctionRef<bool(int64_t, int64_t)> progress,
                                        ContextOptions options) {
  FLEXQ_RETURN_IF_ERROR(check_models(*a, *b));
  const int32_t trained =
      std::min(a->llama->config().context_tokens, b->llama->config().context_tokens);
  if (window_tokens < 2 || window_tokens > trained) {
    return Status::error(StatusCode::kInvalidArgument, "window: expected 2 to %d tokens, found %d",
                         trained, window_tokens);
  }
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, encode_for_both(*a, *b, text));
  int64_t n_windows = static_cast<int64_t>(tokens.size()) / window_tokens;
  if (n_windows == 0) {
    return Status::error(StatusCode::kInvalidArgument,
                         "text: expected at least one window of %d tokens, found %zu tokens",
                         window_tokens, tokens.size());
  }
  if (max_windows > 0) n_windows = std::min<int64_t>(n_windows, max_windows);

  FLEXQ_ASSIGN_OR_RETURN(const std::shared_ptr<Context> context_a,
                         make_context(std::move(a), window_tokens, options));
  FLEXQ_ASSIGN_OR_RETURN(const std::shared_ptr<Context> context_b,
                         make_context(std::move(b), window_tokens, options));
  const int32_t n_vocab = context_a->plan().shape.n_vocab;
  const int64_t total = n_windows * (window_tokens - 1);
  std::array<const float*, kRows> rows_a{};
  std::array<const float*, kRows> rows_b{};
  std::array<PositionComparison, kRows> positions;
  ComparisonResult result;
  result.n_windows = static_cast<int32_t>(n_windows);
  result.n_tokens = static_cast<int64_t>(tokens.size());
  Sums sums;
  for (int64_t window = 0; window < n_windows; ++window) {
    FLEXQ_RETURN_IF_ERROR(context_a->rewind(0, 0));
    FLEXQ_RETURN_IF_ERROR(context_b->rewind(0, 0));
    // The last token of a window predicts nothing that is compared.
    for (int32_t begin = 0; begin + 1 < window_tokens; begin += kRows) {
      const auto first = static_cast<size_t>(window * window_tokens + begin);
      const auto count = static_cast<size_t>(std::min(kRows, window_tokens - 1 - begin));
      const auto inputs = std::span(tokens).subspan(first, count);
      const auto targets = std::span(tokens).subspan(first + 1, count);
      FLEXQ_RETURN_IF_ERROR(decode_all(*context_a, inputs, rows_a));
      FLEXQ_RETURN_IF_ERROR(decode_all(*context_b, inputs, rows_b));
      context_a->model().pool->parallel_for(static_cast<int64_t>(count), [&](int64_t row, int) {
        const auto i = static_cast<size_t>(row);
        positions[i] = compare_position(rows_a[i], rows_b[i], n_vocab, targets[i]);
      });
      for (size_t i = 0; i < count; ++i)
        add_position(positions[i], targets[i], sums, result);
      if (progress(result.n_positions, total)) {
        return Status::error(
            StatusCode::kCancelled, "comparison was cancelled after %lld of %lld positions",
            static_cast<long long>(result.n_positions), static_cast<long long>(total));
      }
    }
  }
  const auto n = static_cast<double>(result.n_positions);
  result.mean_nll_a = sums.nll_a / n;
  result.mean_nll_b = sums.nll_b / n;
  result.mean_kl = sums.kl / n;
  return result;
}

}  // namespace flexq
