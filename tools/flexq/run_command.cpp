// flexq run: a prompt goes in, text streams out.
#include "run_command.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "commands.h"
#include "encoded_text.h"
#include "file_input.h"
#include "interrupt.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

// What the token callback needs; user_data of flexq_generator_run.
struct Stream {
  bool to_stdout;
  bool keep_log_probs;
  int64_t n_written_bytes = 0;
  int write_errno = 0;
  std::vector<TokenLogProbs> log_probs = {};
};

int32_t on_token(const flexq_token_event* event, void* user_data) {
  auto* stream = static_cast<Stream*>(user_data);
  if (stream->keep_log_probs && event->token >= 0) {
    TokenLogProbs entry{event->token, event->log_prob, {}};
    for (int32_t i = 0; i < event->n_alternatives; ++i) {
      entry.alternatives.emplace_back(event->alternative_tokens[i],
                                      event->alternative_log_probs[i]);
    }
    stream->log_probs.push_back(std::move(entry));
  }
  if (stream->to_stdout) {
    const std::string_view text(event->text_bytes > 0 ? event->text : "",
                                static_cast<size_t>(event->text_bytes));
    if (!write_all(STDOUT_FILENO, text)) {
      stream->write_errno = errno;
      return 1;
    }
    stream->n_written_bytes += event->text_bytes;
  }
  return 0;
}

// Runs a started generator to its end. A deadline is an ordinary end; after a signal what was
// generated is still the result, and only the exit code tells.
int generate(const Generator& generator, Stream& stream, bool& was_interrupted) {
  const InterruptWatcher watcher([&] { flexq_generator_cancel(generator.get()); });
  const flexq_status status = flexq_generator_run(generator.get(), on_token, &stream);
  if (stream.write_errno == EINTR) return report_interrupt();
  if (stream.write_errno != 0) {
    return report_failure("standard output", std::string_view(std::strerror(stream.write_errno)));
  }
  was_interrupted = interrupt_signal() != 0 && status != FLEXQ_OK;
  if (status == FLEXQ_OK || status == FLEXQ_ERROR_DEADLINE_EXCEEDED || was_interrupted) {
    return kExitOk;
  }
  if (stream.n_written_bytes > 0) (void)write_all(STDOUT_FILENO, "\n");
  return report_failure("generation", status);
}

int run(const RunCommand& command) {
  std::string prompt = command.prompt;
  if (command.reads_prompt_file) {
    if (const int code = read_input(command.prompt_file, prompt); code != kExitOk) return code;
  }
  GeneratorOptions options;
  if (const int code = make_generator_options(command, options); code != kExitOk) return code;
  Model model;
  if (const int code = load_model(command.model, command.common, model); code != kExitOk) {
    return code;
  }
  Context context;
  if (const int code = create_context(command, model, context); code != kExitOk) {
    return code;
  }
  Generator generator;
  flexq_status status = flexq_generator_create(context.get(), options.get(), Out(generator));
  if (status != FLEXQ_OK) return report_failure(command.model, status);
  status =
      flexq_generator_start(generator.get(), prompt.data(), static_cast<int64_t>(prompt.size()),
                            encode_flags(command.no_bos, command.parse_special));
  if (status != FLEXQ_OK) return report_failure("prompt", status);

  Stream stream{.to_stdout = !command.common.json, .keep_log_probs = command.n_log_probs >= 0};
  if (command.echo) {
    if (const int code = print(prompt); code != kExitOk) return code;
  }
  bool was_interrupted = false;
  if (const int code = generate(generator, stream, was_interrupted); code != kExitOk) return code;

  RunResult result;
  result.log_probs = std::move(stream.log_probs);
  if (const int code = collect_result(context, generator, result); code != kExitOk) return code;
  const int code = command.common.json ? print_run_json(command, result) : print("\n");
  if (code != kExitOk) return code;
  if (command.stats) print_run_stats(result);
  return was_interrupted ? report_interrupt() : kExitOk;
}

// "29=-inf" as (token, bias); false for anything else.
bool parse_logit_bias(const std::string& text, std::pair<int32_t, float>& bias) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return false;
  return CLI::detail::lexical_cast(text.substr(0, equals), bias.first) &&
         CLI::detail::lexical_cast(text.substr(equals + 1), bias.second);
}

void add_generation_options(CLI::App& app, RunCommand& command) {
  add_number(app, "-n,--max-tokens", command.max_tokens, "N",
             "Most tokens to generate; 0: until the context is full")
      ->check(integer_from(0, INT32_MAX));
  add_number(app, "--context", command.context_tokens, "N",
             "Longest prompt and answer together, in tokens; 0: what the model was trained for, "
             "at most 4096")
      ->check(integer_from(0, INT32_MAX));
  add_kv_type_option(app, command.kv_type);
  app.add_option("--stop", command.stop, "End the text before TEXT; repeatable")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  add_format_option(app, command);
  add_number(app, "--deadline-ms", command.deadline_ms, "MS",
             "End the answer after this time; 0: never")
      ->check(integer_from(0, INT64_MAX / 1000000));
  app.add_flag("--ignore-eos", command.ignore_eos, "Go on after the model's end tokens");
  app.add_flag("--no-bos", command.no_bos, "Do not put BOS in front of the prompt");
  app.add_flag("--parse-special", command.parse_special,
               "Read names of control tokens such as <s> in the prompt as the tokens");
}

}  // namespace

int create_context(const RunCommand& command, const Model& model, Context& context) {
  ContextOptions options;
  if (const int code = make_context_options(command.kv_type, options); code != kExitOk) return code;
  if (flexq_context_options_set_context_tokens(options.get(), command.context_tokens) != FLEXQ_OK) {
    return report_usage("--context");
  }
  const flexq_status status = flexq_context_create(model.get(), options.get(), Out(context));
  return status == FLEXQ_OK ? kExitOk : report_failure("--context", status);
}

void add_format_option(CLI::App& app, RunCommand& command) {
  app.add_option("--format", command.format,
                 "What an answer must be: text, or json: one JSON object, always whole")
      ->capture_default_str()
      ->type_name("NAME");
}

void add_sampling_options(CLI::App& app, RunCommand& command) {
  const auto add = [&app](const char* name, auto& value, const char* type, const char* help) {
    return add_number(app, name, value, type, help)->group("Sampling");
  };
  add("--temperature", command.temperature, "T", "0: always the most probable token");
  add("--top-k", command.top_k, "K", "Draw among the K most probable tokens; 0: off")
      ->check(integer_from(0, INT32_MAX));
  add("--top-p", command.top_p, "P", "Draw among the fewest tokens that reach probability P");
  add("--min-p", command.min_p, "P", "Draw among tokens of at least P times the best probability");
  add("--seed", command.seed, "S", "Same seed, same text")->check(integer_from(0, INT64_MAX));
  add("--repetition-penalty", command.repetition_penalty, "X", "1: off");
  add("--presence-penalty", command.presence_penalty, "X", "0: off");
  add("--frequency-penalty", command.frequency_penalty, "X", "0: off");
  add("--penalty-window", command.penalty_window, "N", "Tokens that penalties look back on")
      ->check(integer_from(0, INT32_MAX));
  app.add_option_function<std::vector<std::string>>(
         "--logit-bias",
         [&command](const std::vector<std::string>& values) {
           for (const std::string& text : values) {
             std::pair<int32_t, float> bias;
             if (!parse_logit_bias(text, bias)) {
               throw CLI::ValidationError("--logit-bias", "expected ID=VALUE, found " + text);
             }
             command.logit_bias.push_back(bias);
           }
         },
         "Add VALUE to a token's logit, -inf forbids the token; repeatable")
      ->type_name("ID=VALUE")
      ->allow_extra_args(false)
      ->group("Sampling");
}

void add_run_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<RunCommand>();
  CLI::App* app = parent.add_subcommand("run", "Generate text from a prompt");
  app->add_option("MODEL", command->model, "Bundle, or checkpoint folder (runs unquantized)")
      ->required()
      ->type_name("");
  CLI::Option* prompt =
      app->add_option("-p,--prompt", command->prompt, "The prompt; empty: BOS alone")
          ->type_name("TEXT");
  CLI::Option* prompt_file =
      app->add_option("--file", command->prompt_file,
                      "In place of -p: file with the prompt, byte for byte; - : standard input")
          ->type_name("FILE");
  add_generation_options(*app, *command);
  add_sampling_options(*app, *command);
  CLI::Option* json_only =
      app->add_option("--log-probs", command->n_log_probs,
                      "With --json: each token's log probability and the N best alternatives")
          ->check(integer_from(0, 20))
          ->type_name("N");
  CLI::Option* echo = app->add_flag("--echo", command->echo, "Print the prompt in front");
  app->add_flag("--stats", command->stats, "Speed and memory on standard error");
  add_common_options(*app, command->common);
  add_public_key_option(*app, command->common);
  json_only->needs(app->get_option("--json"));
  echo->excludes(app->get_option("--json"));
  app->footer(
      "The text streams to standard output as it is computed, then a line break. Ctrl-C ends the\n"
      "answer, prints what there is and exits with 130; a deadline is an ordinary end.\n"
      "Examples:\n"
      "  flexq run llama-2-7b.flexq -p \"The capital of France is\" -n 32\n"
      "  flexq run llama-2-7b-chat.flexq -p \"A city as JSON:\" --format json\n"
      "  flexq run ./llama-2-7b --file prompt.txt --temperature 0.8 --top-p 0.95 --seed 7 --stats\n"
      "JSON: {\"text\", \"prompt_tokens\", \"tokens\", \"finish_reason\": stop, length, cancelled\n"
      "or deadline, \"prefill_tokens_per_second\", \"decode_tokens_per_second\", \"log_probs\"}");
  app->callback([command, prompt, prompt_file, &selected] {
    if (prompt->count() + prompt_file->count() != 1) {
      throw CLI::ValidationError("--prompt, --file", "expected exactly one of them");
    }
    command->reads_prompt_file = prompt_file->count() == 1;
    selected = [command] { return run(*command); };
  });
}

}  // namespace flexq_tool
