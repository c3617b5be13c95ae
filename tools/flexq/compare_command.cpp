// flexq eval compare: what differs between two models, on a text and on a multiple-choice task.
#include <optional>

#include "choice_questions.h"
#include "commands.h"
#include "file_input.h"
#include "progress_bar.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

struct CompareCommand {
  CommonOptions common;
  std::string model_a;
  std::string model_b;
  std::string text_file;
  std::string kv_type = "auto";
  int32_t window_tokens = 512;
  int32_t max_windows = 0;
  ChoiceOptions choice;
};

// Questions whose answers differ.
struct Flips {
  int32_t n_flipped = 0;
  int32_t n_lost = 0;    // A was right
  int32_t n_gained = 0;  // B is right
};

// The answers of both models.
struct TaskComparison {
  ChoiceAnswers a;
  ChoiceAnswers b;

  Flips flips() const {
    Flips flips;
    for (size_t i = 0; i < a.best.size(); ++i) {
      if (a.best[i] == b.best[i]) continue;
      ++flips.n_flipped;
      if (a.best[i] == a.answers[i]) ++flips.n_lost;
      if (b.best[i] == b.answers[i]) ++flips.n_gained;
    }
    return flips;
  }
};

// What was compared; empty parts were not asked for.
struct Comparison {
  std::optional<flexq_comparison_result> text;
  std::optional<TaskComparison> task;
};

double same_top1_share(const flexq_comparison_result& text) {
  return static_cast<double>(text.n_same_top1) / static_cast<double>(text.n_positions);
}

int64_t flipped_top1(const flexq_comparison_result& text) {
  return text.n_positions - text.n_same_top1;
}

nlohmann::ordered_json to_json(const CompareCommand& command, const Comparison& comparison) {
  nlohmann::ordered_json json = {{"a", command.model_a}, {"b", command.model_b}};
  if (comparison.text) {
    const flexq_comparison_result& text = *comparison.text;
    json["text"] = {{"perplexity_a", text.perplexity_a},
                    {"perplexity_b", text.perplexity_b},
                    {"mean_nll_a", text.mean_nll_a},
                    {"mean_nll_b", text.mean_nll_b},
                    {"mean_kl", text.mean_kl},
                    {"top1_agreement", same_top1_share(text)},
                    {"top1_flipped", flipped_top1(text)},
                    {"top1_lost", text.n_lost},
                    {"top1_gained", text.n_gained},
                    {"positions", text.n_positions},
                    {"tokens", text.n_tokens},
                    {"windows", text.n_windows},
                    {"window", text.window_tokens}};
  }
  if (comparison.task) {
    const TaskComparison& task = *comparison.task;
    const Flips flips = task.flips();
    json["choice"] = {{"task", command.choice.task},
                      {"acc_a", task.a.result.accuracy},
                      {"acc_b", task.b.result.accuracy},
                      {"acc_norm_a", task.a.result.accuracy_norm},
                      {"acc_norm_b", task.b.result.accuracy_norm},
                      {"flipped", flips.n_flipped},
                      {"lost", flips.n_lost},
                      {"gained", flips.n_gained},
                      {"n", task.a.result.n_questions}};
  }
  return json;
}

std::string to_text(const CompareCommand& command, const Comparison& comparison) {
  Table table({"", "A", "B"});
  std::string notes;
  if (comparison.text) {
    const flexq_comparison_result& text = *comparison.text;
    table.add({"perplexity", fixed(text.perplexity_a, 4), fixed(text.perplexity_b, 4)});
    notes += "text: KL(A || B) " + short_number(text.mean_kl) +
             " nats; the most probable token is the same at " +
             fixed(100 * same_top1_share(text), 2) + "% of " + std::to_string(text.n_positions) +
             " positions, flipped at " + std::to_string(flipped_top1(text)) + " (" +
             std::to_string(text.n_lost) + " right only in A, " + std::to_string(text.n_gained) +
             " only in B)\n";
  }
  if (comparison.task) {
    const TaskComparison& task = *comparison.task;
    const auto percent = [](double share) { return fixed(100 * share, 2) + "%"; };
    table.add({command.choice.task + " accuracy", percent(task.a.result.accuracy),
               percent(task.b.result.accuracy)});
    table.add({command.choice.task + " accuracy per character",
               percent(task.a.result.accuracy_norm), percent(task.b.result.accuracy_norm)});
    const Flips flips = task.flips();
    notes += command.choice.task + ": " + std::to_string(flips.n_flipped) + " of " +
             std::to_string(task.a.result.n_questions) + " answers flipped (" +
             std::to_string(flips.n_lost) + " right only in A, " + std::to_string(flips.n_gained) +
             " only in B)\n";
  }
  return "A: " + one_line(command.model_a) + "\nB: " + one_line(command.model_b) + "\n" +
         table.text() + notes;
}

int compare_text(const CompareCommand& command, const std::string& text, const Model& a,
                 const Model& b, const ContextOptions& context_options, Comparison& comparison) {
  flexq_comparison_result result = {};
  result.struct_size = sizeof result;
  ProgressBar progress("comparing");
  const flexq_status status = flexq_evaluate_comparison(
      a.get(), b.get(), context_options.get(), text.data(), static_cast<int64_t>(text.size()),
      command.window_tokens, command.max_windows, ProgressBar::callback, &progress, &result);
  if (status != FLEXQ_OK) return report_failure(command.text_file, status);
  comparison.text = result;
  return kExitOk;
}

int compare_answers(const CompareCommand& command, const Questions& questions, const Model& a,
                    const Model& b, const ContextOptions& context_options, Comparison& comparison) {
  TaskComparison task;
  int code =
      answer_questions(command.choice, questions, a, command.model_a, context_options, task.a);
  if (code == kExitOk) {
    code = answer_questions(command.choice, questions, b, command.model_b, context_options, task.b);
  }
  if (code == kExitOk) comparison.task = std::move(task);
  return code;
}

int compare(const CompareCommand& command) {
  const bool has_text = !command.text_file.empty();
  const bool has_task = !command.choice.task.empty();
  if (!has_text && !has_task) {
    report_failure("usage", "expected --text, or --task and --data; see flexq eval compare --help");
    return kExitUsage;
  }
  std::string text;
  Questions questions;
  ContextOptions context_options;
  Model a;
  Model b;
  int code = kExitOk;
  if (has_text) code = read_input(command.text_file, text);
  if (code == kExitOk && has_task) code = open_questions(command.choice, questions);
  if (code == kExitOk) code = make_context_options(command.kv_type, context_options);
  if (code == kExitOk) code = load_model(command.model_a, command.common, a);
  if (code == kExitOk) code = load_model(command.model_b, command.common, b);
  Comparison comparison;
  if (code == kExitOk && has_text)
    code = compare_text(command, text, a, b, context_options, comparison);
  if (code == kExitOk && has_task)
    code = compare_answers(command, questions, a, b, context_options, comparison);
  if (code != kExitOk) return code;
  return command.common.json ? print_json(to_json(command, comparison))
                             : print(to_text(command, comparison));
}

}  // namespace

void add_compare_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<CompareCommand>();
  CLI::App* app = parent.add_subcommand("compare", "What differs between two models");
  app->add_option("A", command->model_a, "Bundle or checkpoint folder: the reference")
      ->required()
      ->type_name("");
  app->add_option("B", command->model_b, "Bundle or checkpoint folder with the same tokenizer")
      ->required()
      ->type_name("");
  app->add_option("--text", command->text_file, "File with a text; - : standard input")
      ->type_name("FILE");
  add_number(*app, "--window", command->window_tokens, "N", "Tokens per window of the text")
      ->check(integer_from(2, 1 << 22));
  add_number(*app, "--windows", command->max_windows, "N", "Compare the first N windows; 0: all")
      ->check(integer_from(0, INT32_MAX));
  add_choice_options(*app, command->choice, false);
  add_kv_type_option(*app, command->kv_type);
  add_common_options(*app, command->common);
  add_public_key_option(*app, command->common);
  app->footer(
      "On a text, cut into windows as by flexq eval perplexity: both perplexities; the mean over\n"
      "its tokens of the KL divergence KL(A || B) between the predictions, in nats; how often the\n"
      "most probable token is the same. On a task, as by flexq eval choice: both accuracies, and\n"
      "the answers that flipped. Both models are in memory at the same time.\n"
      "Examples:\n"
      "  flexq eval compare llama-2-7b-hf llama-2-7b.flexq --text wiki.test.raw --windows 20\n"
      "  flexq eval compare a.flexq b.flexq --task piqa --data piqa.validation.jsonl --json\n"
      "JSON: {\"a\", \"b\", \"text\": {\"perplexity_a\", \"perplexity_b\", \"mean_nll_a\", "
      "\"mean_nll_b\",\n"
      "\"mean_kl\", \"top1_agreement\", \"top1_flipped\", \"top1_lost\", \"top1_gained\", "
      "\"positions\",\n"
      "\"tokens\", \"windows\", \"window\"}, \"choice\": {\"task\", \"acc_a\", \"acc_b\", "
      "\"acc_norm_a\",\n"
      "\"acc_norm_b\", \"flipped\", \"lost\", \"gained\", \"n\"}}");
  app->callback([command, &selected] { selected = [command] { return compare(*command); }; });
}

}  // namespace flexq_tool
