// Runs the built flexq tool and looks at what it wrote.
#pragma once

#include <sys/types.h>

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace flexq::test {

struct ToolSetup {
  std::string stdin_text = {};
  int terminal = -1;  // in place of standard input and standard error: the controlling terminal
  std::string stdout_path = {};  // opened in place of the captured standard output
  int stdout_descriptor = -1;    // in place of the captured standard output
  bool closes_stdout = false;
  int64_t max_file_bytes = 0;  // RLIMIT_FSIZE; 0: unlimited
};

struct ToolResult {
  int exit_code = -1;  // 128 + signal number where a signal ended the process
  std::string out;
  std::string err;
};

// One process; killed at the end of the scope if it still runs. A tool that hangs is killed after
// 120 s and fails the test.
class ToolProcess {
 public:
  ToolProcess(const std::vector<std::string>& arguments, const ToolSetup& setup);
  ~ToolProcess();
  ToolProcess(const ToolProcess&) = delete;
  ToolProcess& operator=(const ToolProcess&) = delete;

  // Waits until the tool has taken over SIGINT and, then, `milliseconds` more.
  void wait_until_started(int milliseconds) const;
  void send_signal(int signal_number) const;
  // Waits until standard output has that many bytes; false when the process ended before.
  bool wait_for_output(int64_t n_bytes);
  int64_t n_output_bytes() const;
  std::string output() const;  // what is on standard output so far
  ToolResult wait();

 private:
  bool has_ended();

  pid_t pid_ = -1;
  int stdin_ = -1;
  int stdout_ = -1;
  int stderr_ = -1;
  int wait_status_ = 0;
  bool is_reaped_ = false;
};

ToolResult run_tool(const std::vector<std::string>& arguments, const ToolSetup& setup = {});

// Exit code 0, nothing on standard error, one JSON object and a line break on standard output.
nlohmann::json run_json(std::vector<std::string> arguments, const ToolSetup& setup = {});

// Nothing on standard output, one line "flexq: ..." on standard error that contains every one of
// the parts.
void check_failure(const ToolResult& result, int exit_code,
                   std::initializer_list<std::string_view> parts);

std::string read_whole_file(const std::string& path);
void write_whole_file(const std::string& path, std::string_view bytes);

}  // namespace flexq::test
