// flexq quantize: a Hugging Face checkpoint folder, or random weights, become a bundle.
#include <chrono>

#include "accuracy_report.h"
#include "commands.h"
#include "file_input.h"
#include "file_output.h"
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
  std::string calibration_file;
  int32_t calibration_windows = 32;
  double perplexity_budget = 0;  // 0: none
  double a8_fraction = -1;       // negative: none
  std::string scale_search = "auto";
  std::string equalization = "auto";
  bool force = false;
  std::string report_file;
};

// What needs a text to be measured on.
int set_calibration(const QuantizeCommand& command, const QuantizeOptions& options) {
  flexq_quantize_options* const to = options.get();
  if (flexq_quantize_options_set(to, "scale_search", command.scale_search.c_str()) != FLEXQ_OK)
    return report_usage("--scale-search");
  if (flexq_quantize_options_set(to, "equalization", command.equalization.c_str()) != FLEXQ_OK)
    return report_usage("--equalization");
  const std::string n_windows = std::to_string(command.calibration_windows);
  if (flexq_quantize_options_set(to, "calibration_windows", n_windows.c_str()) != FLEXQ_OK)
    return report_usage("--calibration-windows");
  if (flexq_quantize_options_set(to, "force", command.force ? "1" : "0") != FLEXQ_OK)
    return report_usage("--force");
  if (flexq_quantize_options_set_perplexity_budget(to, command.perplexity_budget) != FLEXQ_OK)
    return report_usage("--budget-ppl");
  if (flexq_quantize_options_set_a8_fraction(to, command.a8_fraction) != FLEXQ_OK)
    return report_usage("--a8-fraction");
  if (command.calibration_file.empty()) return kExitOk;
  std::string text;
  if (const int code = read_input(command.calibration_file, text); code != kExitOk) return code;
  const flexq_status status =
      flexq_quantize_options_set_calibration(to, text.data(), static_cast<int64_t>(text.size()));
  return status == FLEXQ_OK ? kExitOk : report_failure(command.calibration_file, status);
}

// Prints what the new bundle says about itself.
int print_summary(const QuantizeCommand& command, double seconds) {
  Bundle bundle;
  if (const int code = open_bundle(command.output, command.common, bundle); code != kExitOk)
    return code;
  std::string text;
  if (const int code = read_bundle_json(command.output, bundle, text); code != kExitOk) return code;
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const int64_t size_bytes = json.value("size_bytes", int64_t{0});
  const double bits_per_weight = json.value("bits_per_weight", 0.0);
  if (!command.report_file.empty()) {
    const int code = write_output(command.report_file, report_page(json));
    if (code != kExitOk) return code;
  }
  const nlohmann::json calibration =
      json.value("provenance", nlohmann::json::object()).value("calibration", nlohmann::json());
  if (command.common.json) {
    nlohmann::ordered_json result = {{"output", command.output},
                                     {"policy", command.precision.policy},
                                     {"size_bytes", size_bytes},
                                     {"bits_per_weight", bits_per_weight},
                                     {"seconds", seconds}};
    if (calibration.is_object()) {
      result["calibration"] = calibration;
      result["layers"] = nlohmann::json::array();
      for (const auto& layer : json["quantization"]["layers"])
        result["layers"].push_back(
            {{"name", layer["name"]}, {"activation_bits", layer["activation_bits"]}});
    }
    return print_json(result);
  }
  // 0: this policy leaves every layer as it is.
  const std::string bits =
      bits_per_weight > 0 ? ", " + fixed(bits_per_weight, 2) + " bits per weight" : "";
  return print(one_line(command.output) + ": " + format_bytes(size_bytes) + ", policy " +
               command.precision.policy + bits + ", " + fixed(seconds, 1) + " s\n" +
               calibration_text(calibration));
}

int quantize(const QuantizeCommand& command) {
  QuantizeOptions options;
  if (const int code = make_quantize_options(command.precision, command.common.n_threads, options);
      code != kExitOk) {
    return code;
  }
  if (const int code = set_calibration(command, options); code != kExitOk) return code;
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
    if (status == FLEXQ_ERROR_BUDGET_NOT_MET)
      return report_failure("quantize",
                            std::string(flexq_last_error()) +
                                "; --force writes that, a larger --budget-ppl allows it");
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
  app->add_option("--policy", command->precision.policy, std::string(kPolicyHelp) + kAutoPolicyHelp)
      ->capture_default_str()
      ->type_name("NAME");
  add_matrix_bits_options(*app, command->precision);
  app->add_option("--calibration", command->calibration_file,
                  "Text to measure precisions on: for --policy auto, and for the report")
      ->type_name("FILE");
  add_number(*app, "--calibration-windows", command->calibration_windows, "N",
             "Windows of 512 tokens taken from it, evenly spread")
      ->check(integer_from(4, 4096));
  CLI::Option* budget =
      app->add_option("--budget-ppl", command->perplexity_budget,
                      "auto: least 8-bit work that raises the perplexity by at most this part over "
                      "unquantized activations; 0.001: a thousandth")
          ->type_name("X");
  CLI::Option* fraction = app->add_option("--a8-fraction", command->a8_fraction,
                                          "auto: least loss with at most this share, 0 to 1, of "
                                          "the work on 8-bit activations")
                              ->type_name("F");
  budget->excludes(fraction);
  app->add_flag("--force", command->force,
                "Where --budget-ppl cannot be met, write the best there is");
  app->add_option("--scale-search", command->scale_search,
                  "Scales of weights: none (from the largest weight of a group), error (least "
                  "squared error), weighted (by the inputs' mean squares, needs --calibration), "
                  "auto (weighted with --calibration, none without)")
      ->capture_default_str()
      ->type_name("NAME");
  app->add_option("--equalization", command->equalization,
                  "Powers of two between layers that leave the model's function as it is and lower "
                  "what 6-bit activations cost: on (needs --calibration; not with --budget-ppl), "
                  "none, auto (on for --policy auto with --a8-fraction, none otherwise)")
      ->capture_default_str()
      ->type_name("NAME");
  app->add_option("--report", command->report_file,
                  "Also write what was measured and chosen as one HTML page")
      ->type_name("FILE.html");
  add_common_options(*app, command->common);
  app->footer(
      "Examples:\n"
      "  flexq quantize ./llama-2-7b -o llama-2-7b.flexq --policy flexq --lm-head-bits 8\n"
      "  flexq quantize ./llama-2-7b -o llama-2-7b.flexq --policy auto --calibration "
      "wiki.valid.raw\n"
      "    --budget-ppl 0.001 --report report.html\n"
      "  flexq quantize --shape tinyllama-1.1b -o random.flexq\n"
      "JSON: {\"output\", \"policy\", \"size_bytes\", \"bits_per_weight\", \"seconds\"}, with\n"
      "--calibration also \"calibration\" and \"layers\" [{\"name\", \"activation_bits\"}]");
  app->callback([command, checkpoint, shape, &selected] {
    if (checkpoint->count() + shape->count() != 1) {
      throw CLI::ValidationError("CHECKPOINT_DIR, --shape", "expected exactly one of them");
    }
    selected = [command] { return quantize(*command); };
  });
}

}  // namespace flexq_tool
