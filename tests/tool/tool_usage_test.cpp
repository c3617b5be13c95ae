// Help, version, wrong usage.
#include <doctest/doctest.h>

#include "tool/tool_process.h"

using namespace flexq::test;

namespace {

const std::vector<std::vector<std::string>> kCommands = {{"quantize"},
                                                         {"inspect"},
                                                         {"verify"},
                                                         {"sign"},
                                                         {"run"},
                                                         {"chat"},
                                                         {"tokenize"},
                                                         {"eval"},
                                                         {"bench"},
                                                         {"eval", "perplexity"},
                                                         {"eval", "choice"},
                                                         {"eval", "compare"},
                                                         {"bench", "e2e"},
                                                         {"bench", "kernels"},
                                                         {"bench", "load"}};

}  // namespace

TEST_CASE("help of the tool and of every command") {
  const ToolResult help = run_tool({"--help"});
  CHECK(help.exit_code == 0);
  CHECK(help.err == "");
  for (std::vector<std::string> command : kCommands) {
    CAPTURE(command.back());
    CHECK((command.size() > 1 || help.out.find("  " + command[0]) != std::string::npos));
    const bool is_group = command.size() == 1 && (command[0] == "eval" || command[0] == "bench");
    command.push_back("--help");
    const ToolResult result = run_tool(command);
    CHECK(result.exit_code == 0);
    CHECK(result.err == "");
    if (is_group) continue;
    for (const char* part : {"Example", "--json", "--threads", "JSON: {"}) {
      CAPTURE(part);
      CHECK(result.out.find(part) != std::string::npos);
    }
  }
}

TEST_CASE("version and build information") {
  const ToolResult result = run_tool({"--version"});
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  CHECK(result.out.starts_with("flexq "));
  CHECK(result.out.find("compiler") != std::string::npos);
}

TEST_CASE("wrong usage exits with 2 and one line that names the option") {
  struct Case {
    std::vector<std::string> arguments;
    const char* part;
  };
  const Case cases[] = {
      {{}, "subcommand"},
      {{"eval"}, "subcommand"},
      {{"no-such-command"}, "no-such-command"},
      {{"run"}, "MODEL"},
      {{"run", "m"}, "--prompt"},
      {{"run", "m", "-p", "a", "--file", "b"}, "--file"},
      {{"run", "m", "-p", "a", "--no-such-option"}, "--no-such-option"},
      {{"run", "m", "-p", "a", "-n", "many"}, "--max-tokens"},
      {{"run", "m", "-p", "a", "-n", ""}, "--max-tokens"},
      {{"run", "m", "-p", "a", "-n", "-1"}, "--max-tokens"},
      {{"run", "m", "-p", "a", "-n", "99999999999"}, "--max-tokens"},
      {{"run", "m", "-p", "a", "--temperature", "-1"}, "--temperature"},
      {{"run", "m", "-p", "a", "--temperature", "nan"}, "--temperature"},
      {{"run", "m", "-p", "a", "--top-p", "1.5"}, "--top-p"},
      {{"run", "m", "-p", "a", "--min-p", "-0.5"}, "--min-p"},
      {{"run", "m", "-p", "a", "--repetition-penalty", "0"}, "penalties"},
      {{"run", "m", "-p", "a", "--seed", "-1"}, "--seed"},
      {{"run", "m", "-p", "a", "--logit-bias", "5"}, "--logit-bias"},
      {{"run", "m", "-p", "a", "--logit-bias", "x=1"}, "--logit-bias"},
      {{"run", "m", "-p", "a", "--stop", ""}, "--stop"},
      {{"run", "m", "-p", "a", "--format", "yaml"}, "--format"},
      {{"run", "m", "-p", "a", "--log-probs", "3"}, "--json"},
      {{"run", "m", "-p", "a", "--threads", "-2"}, "--threads"},
      {{"chat"}, "MODEL"},
      {{"chat", "m", "--context", "-1"}, "--context"},
      {{"chat", "m", "--top-p", "2"}, "--top-p"},
      {{"chat", "m", "--format", "xml"}, "--format"},
      {{"quantize", "m"}, "--output"},
      {{"quantize", "m", "-o", "x", "--policy", "w5a5"}, "--policy"},
      {{"tokenize", "m", "--text", "a", "--file", "b"}, "--text"},
      {{"eval", "perplexity", "m"}, "--text"},
      {{"eval", "perplexity", "m", "--text", "t", "--window", "1"}, "--window"},
      {{"eval", "choice", "m", "--data", "d"}, "--task"},
      {{"eval", "choice", "m", "--task", "piqa"}, "--data"},
      {{"eval", "choice", "--task", "piqa", "--data", "d"}, "MODEL"},
      {{"eval", "choice", "m", "--task", "arc-easy", "--data", "d"}, "--task"},
      {{"eval", "choice", "m", "--task", "piqa", "--data", "d", "--limit", "-1"}, "--limit"},
      {{"eval", "choice", "m", "--task", "piqa", "--data", "d", "--batch", "0"}, "--batch"},
      {{"eval", "compare", "m", "--text", "t"}, "B"},
      {{"eval", "compare", "m", "n"}, "--text"},
      {{"eval", "compare", "m", "n", "--task", "piqa"}, "--data"},
      {{"eval", "compare", "m", "n", "--text", "t", "--data", "d"}, "--task"},
      {{"eval", "compare", "m", "n", "--text", "t", "--window", "1"}, "--window"},
      {{"bench", "e2e", "m", "--batch", "1,x"}, "--batch"},
      {{"bench", "e2e", "m", "--prompt", "0"}, "--prompt"},
  };
  for (const Case& one : cases) {
    std::string words;
    for (const std::string& word : one.arguments)
      words += word + " ";
    CAPTURE(words);
    check_failure(run_tool(one.arguments), 2, {one.part});
  }
}
