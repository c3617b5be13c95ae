#include "api/handles.h"
#include "eval/perplexity.h"

using flexq::Status;
using flexq::api::guarded;
using flexq::api::Held;

extern "C" {

flexq_status flexq_evaluate_perplexity(const flexq_model* model,
                                       const flexq_context_options* context_options,
                                       const char* text, int64_t text_bytes, int32_t window_tokens,
                                       int32_t max_windows, flexq_window_callback callback,
                                       void* user_data, flexq_perplexity_result* result) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(model);
    FLEXQ_REQUIRE(result);
    FLEXQ_RETURN_IF_ERROR(flexq::api::check_info(result));
    std::string_view view;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_text("text", text, text_bytes, &view));
    if (max_windows < 0) return flexq::api::invalid_range("max_windows", 0, INT32_MAX, max_windows);
    const Held held(model);
    const auto after_window = [&](int32_t window, int32_t n_windows, double nll) {
      return callback != nullptr && callback(window, n_windows, nll, user_data) != 0;
    };
    const flexq::ContextOptions options =
        context_options != nullptr ? context_options->options : flexq::ContextOptions();
    FLEXQ_ASSIGN_OR_RETURN(const flexq::PerplexityResult found,
                           flexq::evaluate_perplexity(held->model, view, window_tokens, max_windows,
                                                      after_window, options));
    flexq_perplexity_result filled = {};
    filled.n_windows = found.n_windows;
    filled.window_tokens = window_tokens;
    filled.n_tokens = found.n_tokens;
    filled.mean_nll = found.mean_nll;
    filled.perplexity = found.perplexity;
    return flexq::api::fill_info(filled, result);
  });
}

}  // extern "C"
