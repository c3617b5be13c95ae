#include "tool/tool_process.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <thread>

namespace flexq::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kHangs = std::chrono::seconds(120);
constexpr auto kPollInterval = std::chrono::milliseconds(2);

// A file in memory: no pipe can fill up, whatever the tool writes.
int memory_file(const char* name, const std::string& content) {
  const int descriptor = memfd_create(name, MFD_CLOEXEC);
  REQUIRE(descriptor >= 0);
  REQUIRE(write(descriptor, content.data(), content.size()) ==
          static_cast<ssize_t>(content.size()));
  REQUIRE(lseek(descriptor, 0, SEEK_SET) == 0);
  return descriptor;
}

std::string content_of(int descriptor) {
  struct stat file = {};
  REQUIRE(fstat(descriptor, &file) == 0);
  std::string content(static_cast<size_t>(file.st_size), '\0');
  REQUIRE(pread(descriptor, content.data(), content.size(), 0) ==
          static_cast<ssize_t>(content.size()));
  return content;
}

// In the child, between fork and exec: system calls only.
[[noreturn]] void become_tool(char* const* argv, int in, int out, int err, const ToolSetup& setup) {
  if (setup.terminal >= 0) {
    setsid();
    ioctl(setup.terminal, TIOCSCTTY, 0);
  }
  dup2(setup.terminal >= 0 ? setup.terminal : in, STDIN_FILENO);
  dup2(setup.terminal >= 0 ? setup.terminal : err, STDERR_FILENO);
  if (setup.closes_stdout) {
    close(STDOUT_FILENO);
  } else if (!setup.stdout_path.empty()) {
    dup2(open(setup.stdout_path.c_str(), O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
  } else {
    dup2(setup.stdout_descriptor >= 0 ? setup.stdout_descriptor : out, STDOUT_FILENO);
  }
  if (setup.max_file_bytes > 0) {
    rlimit limit = {};
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = static_cast<rlim_t>(setup.max_file_bytes);
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  // What a shell gives; a test runner may ignore some of them.
  for (const int signal_number : {SIGINT, SIGTERM, SIGPIPE, SIGXFSZ}) {
    std::signal(signal_number, SIG_DFL);
  }
  execv(FLEXQ_TOOL, argv);
  _exit(126);
}

}  // namespace

ToolProcess::ToolProcess(const std::vector<std::string>& arguments, const ToolSetup& setup)
    : stdin_(memory_file("stdin", setup.stdin_text)),
      stdout_(memory_file("stdout", "")),
      stderr_(memory_file("stderr", "")) {
  std::vector<std::string> words = {"flexq"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_ = fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) become_tool(argv.data(), stdin_, stdout_, stderr_, setup);
}

ToolProcess::~ToolProcess() {
  if (!is_reaped_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, &wait_status_, 0);
  }
  for (const int descriptor : {stdin_, stdout_, stderr_})
    close(descriptor);
}

void ToolProcess::wait_until_started(int milliseconds) const {
  const std::string path = "/proc/" + std::to_string(pid_) + "/status";
  const Clock::time_point deadline = Clock::now() + kHangs;
  for (bool is_started = false; !is_started;) {
    REQUIRE(Clock::now() < deadline);
    std::this_thread::sleep_for(kPollInterval);
    std::ifstream status(path);
    for (std::string line; std::getline(status, line);) {
      if (!line.starts_with("SigCgt:")) continue;
      const uint64_t caught = std::stoull(line.substr(7), nullptr, 16);
      is_started = (caught >> (SIGINT - 1) & 1) != 0;
    }
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

void ToolProcess::send_signal(int signal_number) const {
  REQUIRE(kill(pid_, signal_number) == 0);
}

bool ToolProcess::has_ended() {
  if (!is_reaped_) is_reaped_ = waitpid(pid_, &wait_status_, WNOHANG) == pid_;
  return is_reaped_;
}

int64_t ToolProcess::n_output_bytes() const {
  struct stat file = {};
  REQUIRE(fstat(stdout_, &file) == 0);
  return file.st_size;
}

bool ToolProcess::wait_for_output(int64_t n_bytes) {
  const Clock::time_point deadline = Clock::now() + kHangs;
  for (;;) {
    const bool had_ended = has_ended();
    if (n_output_bytes() >= n_bytes) return true;
    if (had_ended) return false;
    REQUIRE(Clock::now() < deadline);
    std::this_thread::sleep_for(kPollInterval);
  }
}

std::string ToolProcess::output() const {
  return content_of(stdout_);
}

ToolResult ToolProcess::wait() {
  const Clock::time_point deadline = Clock::now() + kHangs;
  while (!has_ended()) {
    REQUIRE_MESSAGE(Clock::now() < deadline, "the tool hangs");
    std::this_thread::sleep_for(kPollInterval);
  }
  const int exit_code =
      WIFEXITED(wait_status_) ? WEXITSTATUS(wait_status_) : 128 + WTERMSIG(wait_status_);
  return {exit_code, content_of(stdout_), content_of(stderr_)};
}

ToolResult run_tool(const std::vector<std::string>& arguments, const ToolSetup& setup) {
  return ToolProcess(arguments, setup).wait();
}

nlohmann::json run_json(std::vector<std::string> arguments, const ToolSetup& setup) {
  arguments.push_back("--json");
  const ToolResult result = run_tool(arguments, setup);
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  CHECK(result.out.ends_with('\n'));
  const nlohmann::json json = nlohmann::json::parse(result.out, nullptr, false);
  REQUIRE_MESSAGE(json.is_object(), "standard output is not one JSON object: " << result.out);
  return json;
}

void check_failure(const ToolResult& result, int exit_code,
                   std::initializer_list<std::string_view> parts) {
  CAPTURE(result.err);
  CHECK(result.exit_code == exit_code);
  CHECK(result.out == "");
  CHECK(result.err.starts_with("flexq: "));
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.ends_with('\n'));
  for (const std::string_view part : parts) {
    CAPTURE(part);
    CHECK(result.err.find(part) != std::string::npos);
  }
}

std::string read_whole_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.is_open(), path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void write_whole_file(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  REQUIRE_MESSAGE(file.good(), path);
}

}  // namespace flexq::test
