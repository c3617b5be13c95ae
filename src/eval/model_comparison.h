// Two models on one text: what quantization, or another policy, changed.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/status.h"
#include "base/thread_pool.h"
#include "runtime/context.h"
#include "runtime/loaded_model.h"

namespace flexq {

struct ComparisonResult {
  int32_t n_windows = 0;
  int64_t n_tokens = 0;     // of the whole text, BOS included
  int64_t n_positions = 0;  // compared: window_tokens - 1 of every window
  int64_t n_same_top1 = 0;  // positions where both think the same token most probable
  int64_t n_lost = 0;       // of the others: where A is right about the next token and B is not
  int64_t n_gained = 0;     // and the other way round
  double mean_nll_a = 0;    // nats per position
  double mean_nll_b = 0;
  double mean_kl = 0;  // of KL(A || B) = sum over the vocabulary of p_A ln(p_A / p_B), nats
};

// Windows as in perplexity.h. Models whose vocabularies differ in size, or which encode the text
// differently, are kInvalidArgument. progress(done, total) counts the positions: true cancels. Of
// `options` only the KV cache's type, the chunk size and the poison count.
Result<ComparisonResult> compare_models(std::shared_ptr<const LoadedModel> a,
                                        std::shared_ptr<const LoadedModel> b, std::string_view text,
                                        int32_t window_tokens, int32_t max_windows,
                                        FunctionRef<bool(int64_t done, int64_t total)> progress,
                                        ContextOptions options = {});

// What one position says. logits_a and logits_b: (n_vocab); target: the token that follows.
struct PositionComparison {
  int32_t top_a = 0;  // the first of the largest logits
  int32_t top_b = 0;
  double nll_a = 0;
  double nll_b = 0;
  double kl = 0;
};
PositionComparison compare_position(const float* logits_a, const float* logits_b, int32_t n_vocab,
                                    int32_t target);

}  // namespace flexq
