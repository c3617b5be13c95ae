#include "base/os_calls.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace flexq::os {
namespace {

Gate gate = nullptr;
void* gate_data = nullptr;

// Runs `call` with the number of bytes the gate allows, until it does anything but EINTR.
template <typename F>
auto guarded(Call which, size_t bytes, F call) -> decltype(call(bytes)) {
  while (true) {
    size_t allowed = bytes;
    decltype(call(bytes)) result = -1;
    int injected = 0;
    if (gate != nullptr) {
      const Fault fault = gate(which, gate_data);
      injected = fault.error;
      if (fault.max_bytes >= 0) allowed = std::min(bytes, static_cast<size_t>(fault.max_bytes));
    }
    if (injected != 0) {
      errno = injected;
    } else {
      result = call(allowed);
    }
    if (result >= 0 || errno != EINTR) return result;
  }
}

template <typename F>
int guarded(Call which, F call) {
  return guarded(which, 0, [&](size_t) { return call(); });
}

}  // namespace

void set_gate(Gate new_gate, void* user_data) {
  gate = new_gate;
  gate_data = user_data;
}

int open(const char* path, int flags, mode_t mode) {
  return guarded(Call::kOpen, [&] { return ::open(path, flags | O_CLOEXEC | O_NOCTTY, mode); });
}

int fstat(int fd, struct stat* out) {
  return guarded(Call::kStat, [&] { return ::fstat(fd, out); });
}

int stat(const char* path, struct stat* out) {
  return guarded(Call::kStat, [&] { return ::stat(path, out); });
}

ssize_t pread(int fd, void* data, size_t bytes, int64_t offset) {
  return guarded(Call::kRead, bytes, [&](size_t n) { return ::pread(fd, data, n, offset); });
}

ssize_t pwrite(int fd, const void* data, size_t bytes, int64_t offset) {
  return guarded(Call::kWrite, bytes, [&](size_t n) { return ::pwrite(fd, data, n, offset); });
}

int fsync(int fd) {
  return guarded(Call::kSync, [&] { return ::fsync(fd); });
}

int rename(const char* from, const char* to) {
  return guarded(Call::kRename, [&] { return ::rename(from, to); });
}

int unlink(const char* path) {
  return guarded(Call::kUnlink, [&] { return ::unlink(path); });
}

int fchmod(int fd, mode_t mode) {
  return guarded(Call::kMode, [&] { return ::fchmod(fd, mode); });
}

char* realpath(const char* path, char* resolved) {
  const int result =
      guarded(Call::kResolve, [&] { return ::realpath(path, resolved) == nullptr ? -1 : 0; });
  return result == 0 ? resolved : nullptr;
}

int try_lock(int fd) {
  return guarded(Call::kLock, [&] { return ::flock(fd, LOCK_EX | LOCK_NB); });
}

void close(int fd) {
  ::close(fd);
}

Status error(const char* action, const std::string& path, int error_number) {
  StatusCode code = StatusCode::kIo;
  if (error_number == ENOENT || error_number == ENOTDIR) code = StatusCode::kNotFound;
  // EFBIG: the file system or a resource limit has no room for a file of that size.
  if (error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG)
    code = StatusCode::kNoSpace;
  if (error_number == ENOMEM) code = StatusCode::kOutOfMemory;
  char buffer[256];
  return Status::error(code, "%s: cannot %s: %s", path.c_str(), action,
                       strerror_r(error_number, buffer, sizeof buffer));
}

}  // namespace flexq::os
