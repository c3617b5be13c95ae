// flexq eval perplexity: how well a model predicts a text.
#include <vector>

#include "commands.h"
#include "file_input.h"
#include "interrupt.h"
#include "progress_bar.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

struct PerplexityCommand {
  CommonOptions common;
  std::string model;
  std::string text_file;
  std::string kv_type = "auto";
  int32_t window_tokens = 512;
  int32_t max_windows = 0;
  bool per_window = false;
};

struct WindowLog {
  ProgressBar progress{"evaluating"};
  std::vector<double> window_nll;
};

int32_t on_window(int32_t window, int32_t n_windows, double window_nll, void* user_data) {
  auto* log = static_cast<WindowLog*>(user_data);
  log->window_nll.push_back(window_nll);
  return ProgressBar::callback(window + 1, n_windows, &log->progress);
}

int print_result(const PerplexityCommand& command, const flexq_perplexity_result& result,
                 const std::vector<double>& window_nll) {
  if (command.common.json) {
    nlohmann::ordered_json json = {{"perplexity", result.perplexity},
                                   {"mean_nll", result.mean_nll},
                                   {"tokens", result.n_tokens},
                                   {"windows", result.n_windows},
                                   {"window", result.window_tokens}};
    if (command.per_window) json["window_nll"] = window_nll;
    return print_json(json);
  }
  std::string text = "perplexity " + fixed(result.perplexity, 4) + " (mean NLL " +
                     fixed(result.mean_nll, 6) + ", " + std::to_string(result.n_windows) +
                     " windows of " + std::to_string(result.window_tokens) + " of " +
                     std::to_string(result.n_tokens) + " tokens)\n";
  if (command.per_window) {
    Table table({"window", "mean NLL"});
    for (size_t i = 0; i < window_nll.size(); ++i) {
      table.add({std::to_string(i), fixed(window_nll[i], 6)});
    }
    text += table.text();
  }
  return print(text);
}

int evaluate_perplexity(const PerplexityCommand& command) {
  std::string text;
  if (const int code = read_input(command.text_file, text); code != kExitOk) return code;
  ContextOptions context_options;
  if (const int code = make_context_options(command.kv_type, context_options); code != kExitOk) {
    return code;
  }
  Model model;
  if (const int code = load_model(command.model, command.common, model); code != kExitOk) {
    return code;
  }
  flexq_perplexity_result result = {};
  result.struct_size = sizeof result;
  std::vector<double> window_nll;
  {
    WindowLog log;
    const flexq_status status = flexq_evaluate_perplexity(
        model.get(), context_options.get(), text.data(), static_cast<int64_t>(text.size()),
        command.window_tokens, command.max_windows, on_window, &log, &result);
    if (status != FLEXQ_OK) return report_failure(command.text_file, status);
    window_nll.swap(log.window_nll);
  }
  return print_result(command, result, window_nll);
}

}  // namespace

void add_perplexity_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<PerplexityCommand>();
  CLI::App* app = parent.add_subcommand("perplexity", "Perplexity of a text under a model");
  app->add_option("MODEL", command->model,
                  "Bundle, or checkpoint folder (runs unquantized: the reference)")
      ->required()
      ->type_name("");
  app->add_option("--text", command->text_file, "File with the text; - : standard input")
      ->required()
      ->type_name("FILE");
  add_number(*app, "--window", command->window_tokens, "N", "Tokens per window")
      ->check(integer_from(2, 1 << 22));
  add_number(*app, "--windows", command->max_windows, "N", "Evaluate the first N windows; 0: all")
      ->check(integer_from(0, INT32_MAX));
  add_kv_type_option(*app, command->kv_type);
  app->add_flag("--per-window", command->per_window, "Also give each window's mean NLL");
  add_common_options(*app, command->common);
  add_public_key_option(*app, command->common);
  app->footer(
      "The text is tokenized whole with one BOS and cut into consecutive windows, each computed\n"
      "from an empty cache; the tail is dropped. Ctrl-C ends the command after the window that\n"
      "is being computed.\n"
      "Example:\n"
      "  flexq eval perplexity llama-2-7b.flexq --text wiki.test.raw --window 512 --json\n"
      "JSON: {\"perplexity\", \"mean_nll\", \"tokens\", \"windows\", \"window\", \"window_nll\"}");
  app->callback(
      [command, &selected] { selected = [command] { return evaluate_perplexity(*command); }; });
}

}  // namespace flexq_tool
