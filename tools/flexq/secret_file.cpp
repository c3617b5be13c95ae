#include "secret_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "interrupt.h"
#include "terminal_output.h"

namespace flexq_tool {

SecretFile::~SecretFile() {
  explicit_bzero(bytes_.data(), bytes_.size());
}

int SecretFile::read_to_end(int descriptor, const std::string& name) {
  while (n_bytes_ < bytes_.size()) {
    const ssize_t n_read = ::read(descriptor, bytes_.data() + n_bytes_, bytes_.size() - n_bytes_);
    if (n_read == 0) return kExitOk;
    if (n_read > 0) {
      n_bytes_ += static_cast<size_t>(n_read);
    } else if (errno != EINTR) {
      return report_failure(name, std::strerror(errno));
    } else if (interrupt_signal() != 0) {
      return report_interrupt();
    }
  }
  return report_failure(
      name, "expected a key of fewer than " + std::to_string(bytes_.size()) + " bytes, found more");
}

int SecretFile::read(const std::string& path) {
  n_bytes_ = 0;
  if (path == "-") return read_to_end(STDIN_FILENO, "standard input");
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return report_failure(path, std::strerror(errno));
  const int code = read_to_end(descriptor, path);
  close(descriptor);
  return code;
}

}  // namespace flexq_tool
