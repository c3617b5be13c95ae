// flexq tokenize: text to token ids.
#include "commands.h"
#include "encoded_text.h"
#include "file_input.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

struct TokenizeCommand {
  CommonOptions common;
  std::string model;
  std::string text;
  std::string file = "-";
  bool has_text = false;
  bool no_bos = false;
  bool parse_special = false;
};

int print_tokens(const TokenizeCommand& command, const Tokenizer& tokenizer,
                 const std::vector<int32_t>& tokens) {
  if (command.common.json) {
    std::string decoded;
    const flexq_status status = decode(tokenizer, tokens, decoded);
    if (status != FLEXQ_OK) return report_failure(command.model, status);
    return print_json({{"ids", tokens}, {"text", decoded}});
  }
  std::string lines;
  for (const int32_t token : tokens) {
    std::string piece;
    const flexq_status status = token_bytes(tokenizer, token, piece);
    if (status != FLEXQ_OK) return report_failure(command.model, status);
    const std::string id = std::to_string(token);
    lines += std::string(id.size() < 7 ? 7 - id.size() : 0, ' ') + id + "  \"" + one_line(piece) +
             "\"\n";
  }
  return print(lines);
}

int tokenize(const TokenizeCommand& command) {
  std::string text = command.text;
  if (!command.has_text) {
    if (const int code = read_input(command.file, text); code != kExitOk) return code;
  }
  Source source;
  if (const int code = open_source(command.model, command.common, source); code != kExitOk)
    return code;
  Tokenizer tokenizer;
  flexq_status status = flexq_tokenizer_open(source.get(), Out(tokenizer));
  if (status != FLEXQ_OK) return report_failure(command.model, status);
  std::vector<int32_t> tokens;
  status = encode(tokenizer, text, encode_flags(command.no_bos, command.parse_special), tokens);
  if (status != FLEXQ_OK) return report_failure(command.model, status);
  return print_tokens(command, tokenizer, tokens);
}

}  // namespace

void add_tokenize_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<TokenizeCommand>();
  CLI::App* app = parent.add_subcommand("tokenize", "Turn text into token ids");
  app->add_option("MODEL", command->model,
                  "Bundle, checkpoint folder, or folder with tokenizer files alone")
      ->required()
      ->type_name("");
  CLI::Option* text =
      app->add_option("--text", command->text, "The text; may be empty")->type_name("TEXT");
  app->add_option("--file", command->file, "File with the text, byte for byte; - : standard input")
      ->capture_default_str()
      ->type_name("FILE")
      ->excludes(text);
  app->add_flag("--no-bos", command->no_bos, "Do not put BOS in front");
  app->add_flag("--parse-special", command->parse_special,
                "Read names of control tokens such as <s> in the text as the tokens");
  add_common_options(*app, command->common);
  add_public_key_option(*app, command->common);
  app->footer(
      "Examples:\n"
      "  flexq tokenize llama-2-7b.flexq --text \"Hello world\"\n"
      "  flexq tokenize ./llama-2-7b --file book.txt --json\n"
      "JSON: {\"ids\": [...], \"text\": what the ids decode to}");
  app->callback([command, text, &selected] {
    command->has_text = text->count() > 0;
    selected = [command] { return tokenize(*command); };
  });
}

}  // namespace flexq_tool
