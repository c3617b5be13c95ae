// Full disks, closed outputs, Ctrl-C.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "support/test_data.h"
#include "tool/slow_model.h"
#include "tool/tool_process.h"

using namespace flexq::test;

namespace {

const std::string kStories = source_path("samples/data/stories260k");

void check_interrupted(const ToolResult& result, int exit_code) {
  CHECK(result.exit_code == exit_code);
  CHECK(result.err == "flexq: interrupted\n");
}

}  // namespace

TEST_CASE("a full disk behind standard output is an error") {
  const ToolSetup full = {.stdout_path = "/dev/full"};
  const std::vector<std::vector<std::string>> commands = {
      {"--help"},
      {"--version"},
      {"tokenize", kStories, "--text", "a"},
      {"tokenize", kStories, "--text", "a", "--json"},
      {"run", kStories, "-p", "", "-n", "8"},
      {"run", kStories, "-p", "", "-n", "8", "--json"}};
  for (const auto& command : commands) {
    CAPTURE(command[0]);
    check_failure(run_tool(command, full), 1, {"standard output", "No space left"});
  }
}

TEST_CASE("a closed standard output is an error") {
  const ToolSetup closed = {.closes_stdout = true};
  check_failure(run_tool({"run", kStories, "-p", "", "-n", "8"}, closed), 1, {"standard output"});
  // No file that the tool opens may take the place of standard output.
  const TemporaryDirectory directory;
  const std::string bundle = directory.file("a.flexq");
  check_failure(run_tool({"quantize", kStories, "-o", bundle}, closed), 1, {"standard output"});
  CHECK(run_tool({"verify", bundle}).exit_code == 0);
}

TEST_CASE("a reader that went away is an error, not a signal") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  close(ends[0]);
  check_failure(run_tool({"run", kStories, "-p", "", "-n", "8"}, {.stdout_descriptor = ends[1]}), 1,
                {"standard output", "Broken pipe"});
  close(ends[1]);
}

TEST_CASE("Ctrl-C ends a run whose reader is asleep") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const int n_bytes = fcntl(ends[1], F_GETPIPE_SZ);
  const std::string filling(static_cast<size_t>(n_bytes), ' ');
  REQUIRE(write(ends[1], filling.data(), filling.size()) == n_bytes);
  ToolProcess process({"run", kStories, "-p", "", "-n", "8"}, {.stdout_descriptor = ends[1]});
  process.wait_until_started(500);
  process.send_signal(SIGINT);
  check_interrupted(process.wait(), 130);
  close(ends[0]);
  close(ends[1]);
}

TEST_CASE("quantize on a full disk leaves nothing behind") {
  const TemporaryDirectory directory;
  const std::string output = directory.file("out.flexq");
  SUBCASE("a file size limit") {
    check_failure(run_tool({"quantize", kStories, "-o", output}, {.max_file_bytes = 100'000}), 1,
                  {"out.flexq"});
    CHECK(std::filesystem::is_empty(directory.path()));
  }
  SUBCASE("a small file system") {
    if (mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=128k") != 0) {
      case_skipped = true;
      MESSAGE("SKIPPED: no file system of our own to fill: mount: " << std::strerror(errno));
      return;
    }
    const ToolResult result = run_tool({"quantize", kStories, "-o", output});
    const bool is_empty = std::filesystem::is_empty(directory.path());
    umount(directory.path().c_str());
    check_failure(result, 1, {"out.flexq"});
    CHECK(is_empty);
  }
}

TEST_CASE("Ctrl-C ends run, and what was generated is printed") {
  ToolProcess process({"run", slow_model(), "-p", "a", "-n", "0", "--ignore-eos"}, {});
  REQUIRE(process.wait_for_output(1));
  process.send_signal(SIGINT);
  const ToolResult result = process.wait();
  check_interrupted(result, 130);
  CHECK(result.out.ends_with('\n'));
}

TEST_CASE("SIGTERM ends run --json with a whole object") {
  const std::string prompt(3000, 'a');  // a long prompt: the signal comes while it is computed
  ToolProcess process({"run", slow_model(), "-p", prompt, "-n", "0", "--ignore-eos", "--json"}, {});
  process.wait_until_started(700);
  process.send_signal(SIGTERM);
  const ToolResult result = process.wait();
  check_interrupted(result, 143);
  if (result.out.empty()) return;  // the model was still loading
  const auto json = nlohmann::json::parse(result.out, nullptr, false);
  REQUIRE(json.is_object());
  CHECK(json["finish_reason"] == "cancelled");
}

TEST_CASE("a deadline is an ordinary end") {
  const auto json =
      run_json({"run", slow_model(), "-p", "a", "-n", "0", "--ignore-eos", "--deadline-ms", "100"});
  CHECK(json["finish_reason"] == "deadline");
}

TEST_CASE("Ctrl-C ends quantize, eval and bench, and leaves nothing behind") {
  const TemporaryDirectory directory;
  const std::string text = directory.file("text");
  std::string story;
  for (int i = 0; i < 4000; ++i)
    story += "Once upon a time there was a cat. ";
  write_whole_file(text, story);
  const std::string questions = directory.file("questions");
  std::string lines;
  for (int i = 0; i < 400; ++i)
    lines += R"({"passage": ")" + story.substr(0, 1500) +
             R"(", "question": "a", "label": 0})"
             "\n";
  write_whole_file(questions, lines);
  const std::string folder = directory.file("folder");
  std::filesystem::create_directory(folder);
  const std::vector<std::vector<std::string>> commands = {
      {"quantize", slow_model(), "-o", folder + "/out.flexq", "--threads", "1"},
      {"eval", "perplexity", slow_model(), "--text", text, "--window", "64"},
      {"eval", "choice", slow_model(), "--task", "boolq", "--data", questions},
      {"eval", "compare", slow_model(), slow_model(), "--text", text, "--window", "64"},
      {"bench", "e2e", slow_model(), "--prompt", "3000", "--generate", "1000"}};
  for (const auto& command : commands) {
    CAPTURE(command[0]);
    ToolProcess process(command, {});
    process.wait_until_started(50);
    process.send_signal(SIGINT);
    const ToolResult result = process.wait();
    check_interrupted(result, 130);
    CHECK(result.out == "");
  }
  CHECK(std::filesystem::is_empty(folder));
}
