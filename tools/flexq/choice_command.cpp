// flexq eval choice: how many questions with several choices a model answers right.
#include "choice_questions.h"
#include "commands.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

struct ChoiceCommand {
  CommonOptions common;
  std::string model;
  ChoiceOptions choice;
  std::string kv_type = "auto";
  bool with_scores = false;
};

int print_result(const ChoiceCommand& command, const ChoiceAnswers& answers) {
  const flexq_choice_result& result = answers.result;
  if (command.common.json) {
    nlohmann::ordered_json json = {{"task", command.choice.task},
                                   {"acc", result.accuracy},
                                   {"acc_norm", result.accuracy_norm},
                                   {"n", result.n_questions}};
    if (command.with_scores) json["scores"] = answers.scores;
    return print_json(json);
  }
  std::string text = command.choice.task + ": accuracy " + fixed(100 * result.accuracy, 2) +
                     "%, by score per character " + fixed(100 * result.accuracy_norm, 2) + "% (" +
                     std::to_string(result.n_correct) + " and " +
                     std::to_string(result.n_correct_norm) + " of " +
                     std::to_string(result.n_questions) + " questions)\n";
  if (command.with_scores) {
    Table table({"question", "right", "best", "scores"});
    for (size_t i = 0; i < answers.scores.size(); ++i) {
      std::string scores;
      for (const double score : answers.scores[i])
        scores += (scores.empty() ? "" : " ") + fixed(score, 4);
      table.add({std::to_string(i), std::to_string(answers.answers[i]),
                 std::to_string(answers.best[i]), scores});
    }
    text += table.text();
  }
  return print(text);
}

int evaluate_choices(const ChoiceCommand& command) {
  Questions questions;
  if (const int code = open_questions(command.choice, questions); code != kExitOk) return code;
  ContextOptions context_options;
  if (const int code = make_context_options(command.kv_type, context_options); code != kExitOk) {
    return code;
  }
  Model model;
  if (const int code = load_model(command.model, command.common, model); code != kExitOk) {
    return code;
  }
  ChoiceAnswers answers;
  const int code =
      answer_questions(command.choice, questions, model, command.model, context_options, answers);
  return code == kExitOk ? print_result(command, answers) : code;
}

}  // namespace

void add_choice_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<ChoiceCommand>();
  CLI::App* app = parent.add_subcommand("choice", "Accuracy on a multiple-choice task");
  app->add_option("MODEL", command->model,
                  "Bundle, or checkpoint folder (runs unquantized: the reference)")
      ->required()
      ->type_name("");
  add_choice_options(*app, command->choice, true);
  app->add_flag("--scores", command->with_scores,
                "Also give each choice's log-probability, question by question");
  add_kv_type_option(*app, command->kv_type);
  add_common_options(*app, command->common);
  add_public_key_option(*app, command->common);
  app->footer(
      "Scored as in the lm-evaluation-harness, without examples in the context: a choice's score\n"
      "is the sum of its tokens' log-probabilities behind the question; acc counts the highest\n"
      "score, acc_norm the highest score per character.\n"
      "Examples:\n"
      "  flexq eval choice llama-2-7b.flexq --task piqa --data piqa.validation.jsonl\n"
      "  flexq eval choice llama-2-7b-hf --task arc --data ARC-Easy.test.jsonl --limit 500 --json\n"
      "JSON: {\"task\", \"acc\", \"acc_norm\", \"n\", \"scores\": [[...], ...]}");
  app->callback(
      [command, &selected] { selected = [command] { return evaluate_choices(*command); }; });
}

}  // namespace flexq_tool
