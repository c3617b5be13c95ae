// --save-session and --load-session: a text and a conversation go on in another process as if they
// had never stopped.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <map>
#include <sstream>

#include "support/test_data.h"
#include "tool/tool_process.h"

using namespace flexq::test;
using Json = nlohmann::json;

namespace {

using Words = std::vector<std::string>;

Words joined(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// Made once.
const std::string& bundle_of(const std::string& checkpoint) {
  static const TemporaryDirectory directory;
  static std::map<std::string, std::string> made;
  std::string& path = made[checkpoint];
  if (path.empty()) {
    path = directory.file(std::to_string(made.size()) + ".flexq");
    run_json({"quantize", source_path(checkpoint), "-o", path});
  }
  return path;
}

const std::string& stories() {
  return bundle_of("samples/data/stories260k");
}
const std::string& wiki_tiny() {
  return bundle_of("tests/data/wiki-tiny-1m");
}

std::vector<Json> chat(const Words& arguments, const std::string& input) {
  const ToolResult result = run_tool(
      joined({"chat", wiki_tiny(), "--template", "llama-2", "--json", "-n", "20"}, arguments),
      {.stdin_text = input});
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  std::vector<Json> answers;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);)
    answers.push_back(Json::parse(line));
  return answers;
}

}  // namespace

TEST_CASE("run: a text goes on where it was saved") {
  const TemporaryDirectory directory;
  const std::string session = directory.file("session");
  for (const Words& options : {Words{}, Words{"--temperature", "0.8", "--seed", "5"}}) {
    const auto run = [&](const Words& arguments) {
      return run_json(joined(joined({"run", stories()}, arguments), options));
    };
    const Json whole = run({"-p", "Once upon a time", "-n", "60"});
    const Json first = run({"-p", "Once upon a time", "-n", "25", "--save-session", session});
    const Json second = run({"-n", "15", "--load-session", session, "--save-session", session});
    const Json third = run({"-n", "20", "--load-session", session});
    std::vector<int32_t> tokens = first["tokens"];
    for (const Json* part : {&second, &third}) {
      CHECK((*part)["prompt_tokens"].size() == 1);
      for (const Json& token : (*part)["tokens"])
        tokens.push_back(token);
    }
    CHECK(Json(tokens) == whole["tokens"]);

    // A prompt goes behind the text that there is, without a second BOS.
    const Json more = run({"-p", " And then", "-n", "5", "--load-session", session});
    CHECK(more["prompt_tokens"].size() > 1);
    CHECK(more["prompt_tokens"][0] != 1);
  }
  struct stat info {};
  REQUIRE(stat(session.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
}

TEST_CASE("chat: a conversation goes on where it was saved") {
  const TemporaryDirectory directory;
  const std::string session = directory.file("session");
  const std::vector<Json> whole =
      chat({"--system", "Be brief."}, "What is a river?\nAnd the sea?\nAnd a lake?\n");
  REQUIRE(whole.size() == 3);
  const std::vector<Json> first =
      chat({"--system", "Be brief.", "--save-session", session}, "What is a river?\n/exit\n");
  REQUIRE(first.size() == 1);
  CHECK(first[0]["tokens"] == whole[0]["tokens"]);
  const std::vector<Json> later = chat({"--load-session", session, "--save-session", session},
                                       "And the sea?\nAnd a lake?\n/reset\nWhat is a river?\n");
  REQUIRE(later.size() == 3);
  for (const size_t i : {size_t{0}, size_t{1}}) {
    CHECK(later[i]["tokens"] == whole[i + 1]["tokens"]);
    CHECK(later[i]["n_cached_tokens"] == whole[i + 1]["n_cached_tokens"]);
  }
  // The system message was in the session; /reset keeps it.
  CHECK(later[2]["tokens"] == whole[0]["tokens"]);
}

TEST_CASE("sessions that do not fit are refused in one line") {
  const TemporaryDirectory directory;
  const std::string session = directory.file("session");
  run_json({"run", stories(), "-p", "Once", "-n", "5", "--save-session", session});
  const auto run = [&](const std::string& model, const Words& arguments) {
    return run_tool(joined({"run", model, "-n", "5", "--load-session", session}, arguments));
  };
  check_failure(run(wiki_tiny(), {}), 1, {"--load-session", session, "of another"});
  check_failure(run(stories(), {"--kv-type", "i8"}), 1, {session, "kv_type i8, found f16"});
  check_failure(run(stories(), {"--context", "6"}), 1, {"--load-session", "at most 6 tokens"});
  check_failure(run(source_path("samples/data/stories260k"), {}), 1, {"checkpoint"});
  check_failure(run_tool({"run", stories(), "--load-session", directory.file("none")}), 1,
                {"none"});
  const ToolResult unsaved = run_tool(
      {"run", stories(), "-p", "x", "-n", "1", "--save-session", directory.file("no/folder")});
  CHECK(unsaved.exit_code == 1);
  CHECK(unsaved.err.find("--save-session") != std::string::npos);
  check_failure(run_tool({"chat", stories(), "--template", "llama-2", "--load-session", session}),
                1, {session, "expected a session that flexq chat saved"});
  std::string bytes = read_whole_file(session);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_whole_file(session, bytes);
  check_failure(run(stories(), {}), 1, {session, "SHA-256"});
  const ToolResult usage =
      run_tool({"chat", stories(), "--system", "x", "--load-session", session});
  CHECK(usage.exit_code == 2);

  // Nothing was said, or all of it was to be forgotten.
  for (const char* input : {"", "Hi\n/reset\n"}) {
    const std::string path = directory.file("empty");
    const ToolResult result =
        run_tool({"chat", wiki_tiny(), "--template", "llama-2", "-n", "2", "--save-session", path},
                 {.stdin_text = input});
    CHECK(result.exit_code == 0);
    CHECK(result.err == "flexq: nothing was said: no session is saved\n");
    CHECK_FALSE(std::filesystem::exists(path));
  }
}
