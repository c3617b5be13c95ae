// flexq quantize: a Hugging Face checkpoint folder becomes a bundle.
#include <chrono>

#include "commands.h"
#include "progress_bar.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

struct QuantizeCommand {
  CommonOptions common;
  std::string checkpoint;
  std::string output;
  std::string policy = "flexq";
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
                       {"policy", command.policy},
                       {"size_bytes", size_bytes},
                       {"bits_per_weight", bits_per_weight},
                       {"seconds", seconds}});
  }
  // 0: this policy leaves every layer as it is.
  const std::string bits =
      bits_per_weight > 0 ? ", " + fixed(bits_per_weight, 2) + " bits per weight" : "";
  return print(one_line(command.output) + ": " + format_bytes(size_bytes) + ", policy " +
               command.policy + bits + ", " + fixed(seconds, 1) + " s\n");
}

int quantize(const QuantizeCommand& command) {
  QuantizeOptions options;
  if (const flexq_status status = flexq_quantize_options_create(Out(options)); status != FLEXQ_OK) {
    return report_failure("quantize options", status);
  }
  if (flexq_quantize_options_set_policy(options.get(), command.policy.c_str()) != FLEXQ_OK) {
    return report_usage("--policy");
  }
  if (flexq_quantize_options_set_threads(options.get(), command.common.n_threads) != FLEXQ_OK) {
    return report_usage("--threads");
  }
  const auto begin = std::chrono::steady_clock::now();
  {
    ProgressBar progress("quantizing");
    flexq_quantize_options_set_progress(options.get(), ProgressBar::callback, &progress);
    const flexq_status status =
        flexq_quantize(command.checkpoint.c_str(), command.output.c_str(), options.get());
    if (status != FLEXQ_OK) return report_failure("quantize", status);
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  return print_summary(command, elapsed.count());
}

}  // namespace

void add_quantize_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<QuantizeCommand>();
  CLI::App* app = parent.add_subcommand("quantize", "Turn a checkpoint into a bundle");
  app->add_option(
         "CHECKPOINT_DIR", command->checkpoint,
         "Folder with a Hugging Face LLaMA checkpoint: config.json, safetensors, tokenizer")
      ->required()
      ->type_name("");
  app->add_option("-o,--output", command->output,
                  "Bundle to write; appears, or replaces the old one, only when complete")
      ->required()
      ->type_name("MODEL.flexq");
  app->add_option(
         "--policy", command->policy,
         "flexq (6-bit weights and activations, down_proj activations 8 bits), w6a6, w6a8, "
         "w6a16 (activations not quantized), fp16 (nothing quantized)")
      ->capture_default_str()
      ->type_name("NAME");
  add_common_options(*app, command->common);
  app->footer(
      "Example:\n"
      "  flexq quantize ./llama-2-7b -o llama-2-7b.flexq --policy flexq\n"
      "JSON: {\"output\", \"policy\", \"size_bytes\", \"bits_per_weight\", \"seconds\"}");
  app->callback([command, &selected] { selected = [command] { return quantize(*command); }; });
}

}  // namespace flexq_tool
