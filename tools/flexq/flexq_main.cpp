// flexq: the command line tool. It uses flexq.h and, for one benchmark, flexq_private.h.
#include <exception>
#include <string>
#include <vector>

#include "commands.h"
#include "interrupt.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

std::string version_text() {
  std::string text = std::string("flexq ") + flexq_version() + "\n" + flexq_build_info();
  if (text.back() != '\n') text += '\n';
  return text;
}

// "flexq eval perplexity": the command that the command line named, as far as it did.
std::string command_name(const CLI::App& app) {
  std::string name = app.get_name();
  for (const CLI::App* command = &app; !command->get_subcommands().empty();) {
    command = command->get_subcommands().front();
    name += " " + command->get_name();
  }
  return name;
}

// The parser misses a command before it says that there is none of the name given.
std::string problem(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining(true);
  const bool misses_something = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
  return misses_something && !unknown.empty() ? "unknown command or option " + unknown.front()
                                              : error.what();
}

int run_tool(int argc, char** argv) {
  CLI::App app{"Quantizes LLaMA models to 6 bits and runs them.", "flexq"};
  app.footer(
      "Exit codes: 0 success, 1 the work failed, 2 wrong usage, 130 after Ctrl-C.\n"
      "Help for one command: flexq COMMAND --help");
  app.require_subcommand(1);
  app.set_version_flag("--version", version_text, "Print version and build information");

  Work selected;
  add_quantize_command(app, selected);
  add_inspect_command(app, selected);
  add_verify_command(app, selected);
  add_sign_command(app, selected);
  add_run_command(app, selected);
  add_chat_command(app, selected);
  add_serve_command(app, selected);
  add_tokenize_command(app, selected);
  CLI::App* eval = app.add_subcommand("eval", "Measure accuracy");
  eval->require_subcommand(1);
  add_perplexity_command(*eval, selected);
  add_choice_command(*eval, selected);
  add_compare_command(*eval, selected);
  CLI::App* bench = app.add_subcommand("bench", "Measure speed");
  bench->require_subcommand(1);
  add_bench_e2e_command(*bench, selected);
  add_bench_serve_command(*bench, selected);
  add_bench_kernels_command(*bench, selected);
  add_bench_load_command(*bench, selected);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return print(app.help());
  } catch (const CLI::CallForVersion& version) {
    return print(version.what());
  } catch (const CLI::ParseError& error) {
    report_failure("usage", problem(app, error) + "; see " + command_name(app) + " --help");
    return kExitUsage;
  }
  return selected();
}

}  // namespace
}  // namespace flexq_tool

int main(int argc, char** argv) {
  flexq_tool::prepare_standard_streams();
  flexq_tool::install_interrupt_handler();
  try {
    return flexq_tool::run_tool(argc, argv);
  } catch (const std::exception& error) {  // out of memory, or no thread to be had
    return flexq_tool::report_failure("the tool", std::string_view(error.what()));
  }
}
