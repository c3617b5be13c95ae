#include "file_input.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "interrupt.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

// False when a read failed; errno says why.
bool read_to_end(int descriptor, std::string& bytes) {
  constexpr size_t kBlockBytes = size_t{1} << 20;
  for (;;) {
    const size_t old_size = bytes.size();
    bytes.resize(old_size + kBlockBytes);
    const ssize_t n_read = read(descriptor, bytes.data() + old_size, kBlockBytes);
    const int read_errno = errno;
    bytes.resize(old_size + static_cast<size_t>(n_read > 0 ? n_read : 0));
    if (n_read == 0) return true;
    if (n_read < 0 && (read_errno != EINTR || interrupt_signal() != 0)) {
      errno = read_errno;
      return false;
    }
  }
}

}  // namespace

int read_input(const std::string& path, std::string& bytes) {
  const bool is_stdin = path == "-";
  const std::string name = is_stdin ? "standard input" : path;
  const int descriptor = is_stdin ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return report_failure(name, std::strerror(errno));
  bytes.clear();
  const bool is_read = read_to_end(descriptor, bytes);
  const int read_errno = errno;
  if (!is_stdin) close(descriptor);
  if (is_read) return kExitOk;
  if (read_errno == EINTR) return report_interrupt();
  return report_failure(name, std::strerror(read_errno));
}

}  // namespace flexq_tool
