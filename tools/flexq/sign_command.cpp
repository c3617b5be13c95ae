// flexq sign: puts a signature into a bundle.
#include <chrono>

#include "commands.h"
#include "progress_bar.h"
#include "secret_file.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

struct SignCommand {
  CommonOptions common;
  std::string bundle;
  std::string secret_key_file;
};

int sign(const SignCommand& command) {
  const auto begin = std::chrono::steady_clock::now();
  {
    SecretFile key;
    if (const int code = key.read(command.secret_key_file); code != kExitOk) return code;
    ProgressBar progress("signing");
    const flexq_status status =
        flexq_bundle_sign(command.bundle.c_str(), key.data(), key.size(), command.common.n_threads,
                          ProgressBar::callback, &progress);
    if (status != FLEXQ_OK) return report_failure(command.bundle, status);
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  Bundle bundle;
  if (const int code = open_bundle(command.bundle, command.common, bundle); code != kExitOk) {
    return code;
  }
  std::string key_id;
  if (const int code = read_signer(command.bundle, bundle, key_id); code != kExitOk) return code;
  if (command.common.json) {
    return print_json({{"ok", true}, {"key_id", key_id}, {"seconds", elapsed.count()}});
  }
  return print(one_line(command.bundle) + ": signed with the key " + key_id + "\n");
}

}  // namespace

void add_sign_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<SignCommand>();
  CLI::App* app =
      parent.add_subcommand("sign", "Sign a bundle, so that others can tell whose it is");
  app->add_option("MODEL", command->bundle,
                  "Bundle (*.flexq); replaced by the signed one when that is complete")
      ->required()
      ->type_name("");
  app->add_option("--secret-key", command->secret_key_file,
                  "Ed25519 secret key in PEM, not encrypted; -: standard input")
      ->required()
      ->type_name("FILE");
  add_json_option(*app, command->common);
  add_threads_option(*app, command->common);
  app->footer(
      "Checks all of the bundle first. A signature that it has is replaced.\n"
      "Examples:\n"
      "  openssl genpkey -algorithm ed25519 -out secret.pem\n"
      "  openssl pkey -in secret.pem -pubout -out public.pem\n"
      "  flexq sign llama-2-7b.flexq --secret-key secret.pem\n"
      "  flexq verify llama-2-7b.flexq --public-key public.pem\n"
      "JSON: {\"ok\": true, \"key_id\", \"seconds\"}");
  app->callback([command, &selected] { selected = [command] { return sign(*command); }; });
}

}  // namespace flexq_tool
