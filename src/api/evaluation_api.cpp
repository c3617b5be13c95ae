// Perplexity, multiple choice, and two models side by side.
#include <algorithm>
#include <cmath>
#include <span>

#include "api/handles.h"
#include "eval/choice_evaluation.h"
#include "eval/model_comparison.h"
#include "eval/perplexity.h"

using flexq::Status;
using flexq::api::guarded;
using flexq::api::guarded_value;
using flexq::api::Held;

namespace {

flexq::ContextOptions context_options_of(const flexq_context_options* options) {
  return options != nullptr ? options->options : flexq::ContextOptions();
}

flexq_question_result shown(const flexq::QuestionResult& result, int32_t n_questions) {
  flexq_question_result filled = {};
  filled.struct_size = sizeof filled;
  filled.question = result.question;
  filled.n_questions = n_questions;
  filled.n_choices = static_cast<int32_t>(result.scores.size());
  filled.answer = result.answer;
  filled.best = result.best;
  filled.best_norm = result.best_norm;
  filled.scores = result.scores.data();
  return filled;
}

}  // namespace

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
    FLEXQ_ASSIGN_OR_RETURN(
        const flexq::PerplexityResult found,
        flexq::evaluate_perplexity(held->model, view, window_tokens, max_windows, after_window,
                                   context_options_of(context_options)));
    flexq_perplexity_result filled = {};
    filled.n_windows = found.n_windows;
    filled.window_tokens = window_tokens;
    filled.n_tokens = found.n_tokens;
    filled.mean_nll = found.mean_nll;
    filled.perplexity = found.perplexity;
    return flexq::api::fill_info(filled, result);
  });
}

flexq_status flexq_questions_open(const char* task, const char* path, flexq_questions** questions) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(task);
    FLEXQ_REQUIRE(path);
    FLEXQ_REQUIRE(questions);
    auto made = std::make_unique<flexq_questions>();
    FLEXQ_ASSIGN_OR_RETURN(made->list, flexq::read_questions(task, path));
    *questions = made.release();
    return Status();
  });
}

void flexq_questions_release(flexq_questions* questions) {
  flexq::api::drop_reference(questions);
}

int32_t flexq_questions_count(const flexq_questions* questions) {
  return guarded_value(0, [&]() -> int32_t {
    return questions == nullptr ? 0 : static_cast<int32_t>(questions->list.size());
  });
}

flexq_status flexq_evaluate_choices(const flexq_model* model,
                                    const flexq_context_options* context_options,
                                    const flexq_questions* questions, int32_t batch_size,
                                    int32_t max_questions, flexq_progress_callback progress,
                                    flexq_question_callback on_question, void* user_data,
                                    flexq_choice_result* result) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(model);
    FLEXQ_REQUIRE(questions);
    FLEXQ_RETURN_IF_ERROR(flexq::api::check_info(result));
    if (batch_size < 0 || batch_size > flexq::kMaxSequences)
      return flexq::api::invalid_range("batch_size", 0, flexq::kMaxSequences, batch_size);
    if (max_questions < 0)
      return flexq::api::invalid_range("max_questions", 0, INT32_MAX, max_questions);
    const Held held(model);
    const Held held_questions(questions);
    std::span<const flexq::Question> list = held_questions->list;
    if (max_questions > 0)
      list = list.first(std::min(list.size(), static_cast<size_t>(max_questions)));
    const auto n_questions = static_cast<int32_t>(list.size());
    const auto on_tokens = [&](int64_t done, int64_t total) {
      return progress != nullptr && progress(done, total, user_data) != 0;
    };
    const auto after_question = [&](const flexq::QuestionResult& question) {
      if (on_question == nullptr) return false;
      const flexq_question_result event = shown(question, n_questions);
      return on_question(&event, user_data) != 0;
    };
    FLEXQ_ASSIGN_OR_RETURN(
        const flexq::ChoiceResult found,
        flexq::evaluate_choices(held->model, list,
                                batch_size > 0 ? batch_size : flexq::kDefaultBatch, on_tokens,
                                after_question, context_options_of(context_options)));
    flexq_choice_result filled = {};
    filled.n_questions = found.n_questions;
    filled.n_correct = found.n_correct;
    filled.n_correct_norm = found.n_correct_norm;
    filled.accuracy = static_cast<double>(found.n_correct) / found.n_questions;
    filled.accuracy_norm = static_cast<double>(found.n_correct_norm) / found.n_questions;
    return flexq::api::fill_info(filled, result);
  });
}

flexq_status flexq_evaluate_comparison(const flexq_model* model_a, const flexq_model* model_b,
                                       const flexq_context_options* context_options,
                                       const char* text, int64_t text_bytes, int32_t window_tokens,
                                       int32_t max_windows, flexq_progress_callback progress,
                                       void* user_data, flexq_comparison_result* result) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(model_a);
    FLEXQ_REQUIRE(model_b);
    FLEXQ_RETURN_IF_ERROR(flexq::api::check_info(result));
    std::string_view view;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_text("text", text, text_bytes, &view));
    if (max_windows < 0) return flexq::api::invalid_range("max_windows", 0, INT32_MAX, max_windows);
    const Held held_a(model_a);
    const Held held_b(model_b);
    const auto on_positions = [&](int64_t done, int64_t total) {
      return progress != nullptr && progress(done, total, user_data) != 0;
    };
    FLEXQ_ASSIGN_OR_RETURN(
        const flexq::ComparisonResult found,
        flexq::compare_models(held_a->model, held_b->model, view, window_tokens, max_windows,
                              on_positions, context_options_of(context_options)));
    flexq_comparison_result filled = {};
    filled.n_windows = found.n_windows;
    filled.window_tokens = window_tokens;
    filled.n_tokens = found.n_tokens;
    filled.n_positions = found.n_positions;
    filled.n_same_top1 = found.n_same_top1;
    filled.n_lost = found.n_lost;
    filled.n_gained = found.n_gained;
    filled.mean_nll_a = found.mean_nll_a;
    filled.mean_nll_b = found.mean_nll_b;
    filled.perplexity_a = std::exp(found.mean_nll_a);
    filled.perplexity_b = std::exp(found.mean_nll_b);
    filled.mean_kl = found.mean_kl;
    return flexq::api::fill_info(filled, result);
  });
}

}  // extern "C"
