// flexq verify: reads a whole bundle and checks all of it.
#include <chrono>

#include "commands.h"
#include "progress_bar.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

struct VerifyCommand {
  CommonOptions common;
  std::string bundle;
};

int verify(const VerifyCommand& command) {
  const auto begin = std::chrono::steady_clock::now();
  Bundle bundle;
  if (const int code = open_bundle(command.bundle, bundle); code != kExitOk) return code;
  {
    ProgressBar progress("verifying");
    const flexq_status status = flexq_bundle_verify(bundle.get(), command.common.n_threads,
                                                    ProgressBar::callback, &progress);
    if (status != FLEXQ_OK) return report_failure(command.bundle, status);
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  std::string text;
  if (const int code = read_bundle_json(command.bundle, bundle, text); code != kExitOk) return code;
  const int64_t n_bytes =
      nlohmann::json::parse(text, nullptr, false).value("size_bytes", int64_t{0});
  if (command.common.json) {
    return print_json({{"ok", true}, {"bytes", n_bytes}, {"seconds", elapsed.count()}});
  }
  return print(one_line(command.bundle) + ": ok, " + format_bytes(n_bytes) + " verified in " +
               fixed(elapsed.count(), 2) + " s\n");
}

}  // namespace

void add_verify_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<VerifyCommand>();
  CLI::App* app =
      parent.add_subcommand("verify", "Check every byte of a bundle: hashes, padding, values");
  app->add_option("MODEL", command->bundle, "Bundle (*.flexq)")->required()->type_name("");
  add_common_options(*app, command->common);
  app->footer(
      "Example:\n"
      "  flexq verify llama-2-7b.flexq\n"
      "JSON: {\"ok\": true, \"bytes\", \"seconds\"}; a bad bundle is an error with exit code 1");
  app->callback([command, &selected] { selected = [command] { return verify(*command); }; });
}

}  // namespace flexq_tool
