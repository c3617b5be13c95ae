// The system calls behind base/file.h: each retries EINTR, and asks a gate first so that tests can
// make the k-th call fail, come back short, or never return. Results and errno are those of the
// call of the same name. Only base/file.cpp and base/atomic_file.cpp use this.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <limits>
#include <string>

#include "base/status.h"

namespace flexq::os {

enum class Call { kOpen, kStat, kRead, kWrite, kSync, kRename, kUnlink, kLock, kMode, kResolve };

// What a gate answers: with `error` (an errno value) the call is not made and fails with it;
// `max_bytes` shortens a read or a write.
struct Fault {
  int error = 0;
  int64_t max_bytes = std::numeric_limits<int64_t>::max();
};

// Test hook: consulted before every call, and again before each retry after EINTR. Null (the
// default) removes it. Not for concurrent change while files are in use.
using Gate = Fault (*)(Call call, void* user_data);
void set_gate(Gate gate, void* user_data);

int open(const char* path, int flags, mode_t mode);
int fstat(int fd, struct stat* out);
int stat(const char* path, struct stat* out);
ssize_t pread(int fd, void* data, size_t bytes, int64_t offset);
ssize_t pwrite(int fd, const void* data, size_t bytes, int64_t offset);
int fsync(int fd);
int rename(const char* from, const char* to);
int unlink(const char* path);
int fchmod(int fd, mode_t mode);
// realpath(): `resolved` has PATH_MAX bytes.
char* realpath(const char* path, char* resolved);
int try_lock(int fd);  // flock(LOCK_EX | LOCK_NB): held until the file description is closed
void close(int fd);    // never retried: on Linux the descriptor is gone whatever close() says

// kNotFound, kNoSpace, kOutOfMemory or kIo for an errno value: "PATH: cannot ACTION: reason".
Status error(const char* action, const std::string& path, int error_number);

}  // namespace flexq::os
