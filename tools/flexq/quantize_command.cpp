// flexq quantize: a Hugging Face checkpoint folder, or random weights, become a bundle.
#include <chrono>

#include "commands.h"
#include "precision_options.h"
#include "progress_bar.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

struct QuantizeCommand {
  CommonOptions common;
  PrecisionOptions precision;
  std::string checkpoint;
  std::string shape;  // in place of the checkpoint
  std::string output;
};

// Prints what the new bundle says about itself.
int print_summary(const QuantizeCommand& command, double seconds) {
  Bundle bundle;
  if (const int code = open_bundle(command.output, bundle); code != kExitOk) return code;
  std::string text;
  if (const int code = read_bundle_json(command.output, bundle, text); code != kExitOk) return code;
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const int64_t size_bytes = json.value("size_bytes", int64_t{0});
  const double bits_per_weight = json.value("bits_per_weight", 0.0);
  if (command.common.json) {
    return print_json({{"output", command.output},
                       {"policy", command.precision.policy},
                       {"size_bytes", size_bytes},
                       {"bits_per_weight", bits_per_weight},
                       {"seconds", seconds}});
  }
  // 0: this policy leaves every layer as it is.
  const std::string bits =
      bits_per_weight > 0 ? ", " + fixed(bits_per_weight, 2) + " bits per weight" : "";
  return print(one_line(command.output) + ": " + format_bytes(size_bytes) + ", policy " +
               command.precision.policy + bits + ", " + fixed(seconds, 1) + " s\n");
}

int quantize(const QuantizeCommand& command) {
  QuantizeOptions options;
  if (const int code = make_quantize_options(command.precision, command.common.n_threads, options);
      code != kExitOk) {
    return code;
  }
  if (!command.shape.empty()) {
    Source source;  // only to find out whether the shape exists
    const int code = open_synthetic_source(command.shape, command.precision, source);
    if (code != kExitOk) return code;
  }
  const auto begin = std::chrono::steady_clock::now();
  {
    ProgressBar progress("quantizing");
    flexq_quantize_options_set_progress(options.get(), ProgressBar::callback, &progress);
    const char* const output = command.output.c_str();
    const flexq_status status =
        command.shape.empty()
            ? flexq_quantize(command.checkpoint.c_str(), output, options.get())
            : flexq_quantize_synthetic(command.shape.c_str(), output, options.get());
    if (status != FLEXQ_OK) return report_failure("quantize", status);
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  return print_summary(command, elapsed.count());
}

}  // namespace

void add_quantize_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<QuantizeCommand>();
  CLI::App* app = parent.add_subcommand("quantize", "Turn a checkpoint into a bundle");
  CLI::Option* checkpoint =
      app->add_option(
             "CHECKPOINT_DIR", command->checkpoint,
             "Folder with a Hugging Face LLaMA checkpoint: config.json, safetensors, tokenizer")
          ->type_name("");
  CLI::Option* shape =
      app->add_option("--shape", command->shape,
                      std::string("In place of CHECKPOINT_DIR: random weights of the shape of ") +
                          kShapeHelp + "; such a bundle has no tokenizer")
          ->type_name("NAME");
  app->add_option("-o,--output", command->output,
                  "Bundle to write; appears, or replaces the old one, only when complete")
      ->required()
      ->type_name("MODEL.flexq");
  app->add_option("--policy", command->precision.policy, kPolicyHelp)
      ->capture_default_str()
      ->type_name("NAME");
  add_matrix_bits_options(*app, command->precision);
  add_common_options(*app, command->common);
  app->footer(
      "Examples:\n"
      "  flexq quantize ./llama-2-7b -o llama-2-7b.flexq --policy flexq --lm-head-bits 8\n"
      "  flexq quantize --shape tinyllama-1.1b -o random.flexq\n"
      "JSON: {\"output\", \"policy\", \"size_bytes\", \"bits_per_weight\", \"seconds\"}");
  app->callback([command, checkpoint, shape, &selected] {
    if (checkpoint->count() + shape->count() != 1) {
      throw CLI::ValidationError("CHECKPOINT_DIR, --shape", "expected exactly one of them");
    }
    selected = [command] { return quantize(*command); };
  });
}

}  // namespace flexq_tool
