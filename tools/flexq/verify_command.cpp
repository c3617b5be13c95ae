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
  if (const int code = open_bundle(command.bundle, command.common, bundle); code != kExitOk)
    return code;
  {
    ProgressBar progress("verifying");
    const flexq_status status = flexq_bundle_verify(bundle.get(), command.common.n_threads,
                                                    ProgressBar::callback, &progress);
    if (status != FLEXQ_OK) return report_failure(command.bundle, status);
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  std::string text;
  if (const int code = read_bundle_json(command.bundle, bundle, text); code != kExitOk) return code;
  std::string key_id;
  if (const int code = read_signer(command.bundle, bundle, key_id); code != kExitOk) return code;
  const int64_t n_bytes =
      nlohmann::json::parse(text, nullptr, false).value("size_bytes", int64_t{0});
  if (command.common.json) {
    nlohmann::ordered_json result = {
        {"ok", true}, {"bytes", n_bytes}, {"key_id", nullptr}, {"seconds", elapsed.count()}};
    if (!key_id.empty()) result["key_id"] = key_id;
    return print_json(result);
  }
  return print(one_line(command.bundle) + ": ok, " + format_bytes(n_bytes) + " verified in " +
               fixed(elapsed.count(), 2) + " s, " +
               (key_id.empty() ? "unsigned" : "signed with the key " + key_id) + "\n");
}

}  // namespace

void add_verify_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<VerifyCommand>();
  CLI::App* app = parent.add_subcommand(
      "verify", "Check every byte of a bundle: hashes, signature, padding, values");
  app->add_option("MODEL", command->bundle, "Bundle (*.flexq)")->required()->type_name("");
  add_common_options(*app, command->common);
  add_public_key_option(*app, command->common);
  app->footer(
      "Anybody can sign with a key of his own: whose the signature is, only --public-key tells.\n"
      "Examples:\n"
      "  flexq verify llama-2-7b.flexq\n"
      "  flexq verify llama-2-7b.flexq --public-key public.pem\n"
      "JSON: {\"ok\": true, \"bytes\", \"key_id\" (null: unsigned), \"seconds\"}; a bad bundle is "
      "an\n"
      "error with exit code 1");
  app->callback([command, &selected] { selected = [command] { return verify(*command); }; });
}

}  // namespace flexq_tool
