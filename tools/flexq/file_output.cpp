#include "file_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "terminal_output.h"

namespace flexq_tool {
namespace {

int report_errno(const std::string& path, int error) {
  return report_failure(path, std::generic_category().message(error));
}

}  // namespace

int write_output(const std::string& path, std::string_view bytes) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) return report_errno(path, errno);
  const bool written = write_all(descriptor, bytes);
  const int write_error = errno;
  const bool closed = close(descriptor) == 0;
  if (written && closed) return kExitOk;
  return report_errno(path, written ? errno : write_error);
}

}  // namespace flexq_tool
