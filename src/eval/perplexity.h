// Perplexity of a text in consecutive windows, the protocol of the FlexQ paper's tables.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/status.h"
#include "base/thread_pool.h"
#include "runtime/context.h"
#include "runtime/loaded_model.h"

namespace flexq {

struct PerplexityResult {
  int32_t n_windows = 0;
  int64_t n_tokens = 0;  // of the whole text, BOS included
  double mean_nll = 0;   // nats per target
  double perplexity = 0;
};

// The text is tokenised whole with one BOS and cut into consecutive windows of window_tokens; the
// tail is dropped; every window starts from an empty cache and has window_tokens - 1 targets.
// max_windows 0: all. after_window(index, n_windows, mean nll of the window): true cancels. Of
// `options` only the KV cache's type, the chunk size and the poison count.
Result<PerplexityResult> evaluate_perplexity(
    std::shared_ptr<const LoadedModel> model, std::string_view text, int32_t window_tokens,
    int32_t max_windows, FunctionRef<bool(int32_t, int32_t, double)> after_window,
    ContextOptions options = {});

}  // namespace flexq
