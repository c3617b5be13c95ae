// Multiple-choice tasks on the command line, and one model's answers to their questions.
#pragma once

#include <string>
#include <vector>

#include "tool_options.h"

namespace flexq_tool {

struct ChoiceOptions {
  std::string task;
  std::string data_file;
  int32_t limit = 0;
  int32_t batch = 64;
};

// What a model answered.
struct ChoiceAnswers {
  flexq_choice_result result = {};
  std::vector<int32_t> best = {};                // a choice for every question
  std::vector<int32_t> answers = {};             // the right ones
  std::vector<std::vector<double>> scores = {};  // (questions, choices)
};

// --task, --data, --limit and --batch. The first two need each other; `is_required`: they are
// needed in any case.
void add_choice_options(CLI::App& command, ChoiceOptions& options, bool is_required);

// Reads the questions; a task that the library does not know is wrong usage. Failures are reported;
// returns an exit code, as below.
int open_questions(const ChoiceOptions& options, Questions& questions);

// Scores them with a progress bar.
int answer_questions(const ChoiceOptions& options, const Questions& questions, const Model& model,
                     const std::string& model_name, const ContextOptions& context_options,
                     ChoiceAnswers& answers);

}  // namespace flexq_tool
