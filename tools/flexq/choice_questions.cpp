#include "choice_questions.h"

#include "progress_bar.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

// What the callbacks of an evaluation share; user_data.
struct AnswerLog {
  ProgressBar progress{"answering"};
  ChoiceAnswers& answers;
};

int32_t on_progress(int64_t done, int64_t total, void* user_data) {
  return ProgressBar::callback(done, total, &static_cast<AnswerLog*>(user_data)->progress);
}

int32_t on_question(const flexq_question_result* question, void* user_data) {
  ChoiceAnswers& answers = static_cast<AnswerLog*>(user_data)->answers;
  answers.best.push_back(question->best);
  answers.answers.push_back(question->answer);
  answers.scores.emplace_back(question->scores, question->scores + question->n_choices);
  return 0;
}

}  // namespace

void add_choice_options(CLI::App& command, ChoiceOptions& options, bool is_required) {
  CLI::Option* task =
      command
          .add_option("--task", options.task,
                      "piqa, arc (easy and challenge), boolq, winogrande or hellaswag")
          ->type_name("NAME");
  CLI::Option* data =
      command
          .add_option("--data", options.data_file,
                      "The task's published file: JSON lines; for hellaswag six lines of text a "
                      "question")
          ->type_name("FILE");
  task->needs(data)->required(is_required);
  data->needs(task)->required(is_required);
  add_number(command, "--limit", options.limit, "N", "Answer the first N questions; 0: all")
      ->check(integer_from(0, INT32_MAX));
  add_number(command, "--batch", options.batch, "N",
             "Choices computed side by side; no result depends on it")
      ->check(integer_from(1, 4096));
}

int open_questions(const ChoiceOptions& options, Questions& questions) {
  const flexq_status status =
      flexq_questions_open(options.task.c_str(), options.data_file.c_str(), Out(questions));
  if (status == FLEXQ_OK) return kExitOk;
  return status == FLEXQ_ERROR_UNSUPPORTED_VALUE ? report_usage("--task")
                                                 : report_failure("--data", status);
}

int answer_questions(const ChoiceOptions& options, const Questions& questions, const Model& model,
                     const std::string& model_name, const ContextOptions& context_options,
                     ChoiceAnswers& answers) {
  answers.result.struct_size = sizeof answers.result;
  AnswerLog log{.answers = answers};
  const flexq_status status =
      flexq_evaluate_choices(model.get(), context_options.get(), questions.get(), options.batch,
                             options.limit, on_progress, on_question, &log, &answers.result);
  return status == FLEXQ_OK ? kExitOk : report_failure(model_name, status);
}

}  // namespace flexq_tool
