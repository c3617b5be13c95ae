// flexq chat: lines go in, answers come out.
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "chat_session.h"
#include "commands.h"
#include "interrupt.h"
#include "line_input.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

int chat(const ChatCommand& command) {
  ChatSession session(command);
  if (const int code = session.open(); code != kExitOk) return code;
  const bool shows_prompt =
      !command.run.common.json && isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1;
  LineInput input;
  std::string line;
  for (;;) {
    if (shows_prompt) (void)write_all(STDERR_FILENO, "> ");
    const LineInput::Outcome outcome = input.next(line);
    if (outcome == LineInput::Outcome::kInterrupted) return report_interrupt();
    if (outcome == LineInput::Outcome::kFailed)
      return report_failure("standard input", std::string_view(std::strerror(errno)));
    if (outcome == LineInput::Outcome::kEnd || line == "/exit") return kExitOk;
    int code = kExitOk;
    if (line == "/reset")
      code = session.reset();
    else if (line.find_first_not_of(" \t") != std::string::npos)
      code = session.answer(line);
    if (code != kExitOk) return code;
  }
}

}  // namespace

void add_chat_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<ChatCommand>();
  RunCommand& run = command->run;
  CLI::App* app = parent.add_subcommand("chat", "Talk with a chat model, line by line");
  app->add_option("MODEL", run.model, "Bundle, or checkpoint folder (runs unquantized)")
      ->required()
      ->type_name("");
  app->add_option("--system", command->system, "System message in front of the conversation")
      ->type_name("TEXT");
  CLI::Option* name =
      app->add_option("--template", command->template_name,
                      "Chat format: llama-2, llama-3, chatml, zephyr or vicuna; without it that "
                      "of the model's own template")
          ->type_name("NAME");
  add_number(*app, "-n,--max-tokens", run.max_tokens, "N",
             "Most tokens of an answer; 0: until the context is full")
      ->check(integer_from(0, INT32_MAX));
  add_number(*app, "--context", run.context_tokens, "N",
             "Longest conversation in tokens; 0: what the model was trained for, at most 4096")
      ->check(integer_from(0, INT32_MAX));
  add_kv_type_option(*app, run.kv_type);
  app->add_option("--stop", run.stop, "End an answer before TEXT; repeatable")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  add_format_option(*app, run);
  add_number(*app, "--deadline-ms", run.deadline_ms, "MS",
             "End an answer after this time; 0: never")
      ->check(integer_from(0, INT64_MAX / 1000000));
  add_sampling_options(*app, run);
  add_common_options(*app, run.common);
  add_public_key_option(*app, run.common);
  app->footer(
      "Reads one message per line from standard input. /reset begins a new conversation, /exit or\n"
      "the end of the input ends the program. Ctrl-C ends an answer, between answers the program.\n"
      "When the context is full, the oldest turns are dropped.\n"
      "Examples:\n"
      "  flexq chat llama-2-7b-chat.flexq --system \"Answer briefly.\" --temperature 0.7\n"
      "  printf 'Hello\\n' | flexq chat ./model --template chatml --json\n"
      "JSON: {\"text\", \"tokens\", \"n_prompt_tokens\": computed for this answer,\n"
      "\"n_cached_tokens\": taken from earlier turns, \"finish_reason\": stop, length, cancelled\n"
      "or deadline}, one line per answer");
  app->callback([command, name, &selected] {
    command->names_template = name->count() > 0;
    selected = [command] { return chat(*command); };
  });
}

}  // namespace flexq_tool
