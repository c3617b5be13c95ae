#include "terminal_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "interrupt.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

void write_error_line(std::string_view text) {
  // Nothing can be done where standard error itself does not take the line.
  (void)write_all(STDERR_FILENO, "flexq: " + one_line(text) + "\n");
}

}  // namespace

void prepare_standard_streams() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // Takes the lowest free number, which is this one; opened the wrong way round, so that use of
    // the descriptor keeps failing.
    const int wrong_way = descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY;
    (void)open("/dev/null", wrong_way);
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno != EINTR || interrupt_signal() != 0) {
      return false;
    }
  }
  return true;
}

int print(std::string_view text) {
  if (write_all(STDOUT_FILENO, text)) return kExitOk;
  if (errno == EINTR) return report_interrupt();
  return report_failure("standard output", std::strerror(errno));
}

int print_json(const nlohmann::ordered_json& object) {
  using nlohmann::ordered_json;
  return print(object.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
}

int report_failure(std::string_view thing, std::string_view message) {
  std::string line;
  if (!contains(message, thing)) line = std::string(thing) + ": ";
  write_error_line(line += message);
  return kExitFailed;
}

int report_failure(std::string_view thing, flexq_status status) {
  const bool stopped = status == FLEXQ_ERROR_CANCELLED || status == FLEXQ_ERROR_STOPPED_BY_CALLBACK;
  if (stopped && interrupt_signal() != 0) return report_interrupt();
  return report_failure(thing, std::string_view(flexq_last_error()));
}

int report_usage(std::string_view option) {
  report_failure(option, std::string_view(flexq_last_error()));
  return kExitUsage;
}

int report_interrupt() {
  write_error_line("interrupted");
  return kExitSignalBase + interrupt_signal();
}

}  // namespace flexq_tool
