// AtomicFile: temporary, sync, rename, sync the folder. The temporary is called
// .NAME.flexq-tmp-PID-COUNTER and stays locked (flock) while its writer lives, so that a later
// writer can tell a left-over from a file in use even where process ids are reused.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/os_calls.h"

namespace flexq {
namespace {

constexpr std::string_view kInfix = ".flexq-tmp-";
constexpr int kMaxAttempts = 1000;  // names tried before giving up

std::atomic<uint32_t> next_counter{0};

struct SplitPath {
  std::string folder;  // never empty: "." for a bare name
  std::string name;
};

SplitPath split(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {".", path};
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

// The process id in `.NAME.flexq-tmp-PID-COUNTER`; nothing for any other name.
std::optional<pid_t> temporary_owner(std::string_view entry, std::string_view target_name) {
  const std::string prefix = "." + std::string(target_name) + std::string(kInfix);
  if (!entry.starts_with(prefix)) return std::nullopt;
  const std::string_view rest = entry.substr(prefix.size());
  const char* end = rest.data() + rest.size();
  pid_t owner = 0;
  const auto [dash, owner_error] = std::from_chars(rest.data(), end, owner);
  if (owner_error != std::errc() || owner <= 0 || dash == end || *dash != '-') return std::nullopt;
  uint32_t counter = 0;
  const auto [last, counter_error] = std::from_chars(dash + 1, end, counter);
  if (counter_error != std::errc() || last != end) return std::nullopt;
  return owner;
}

// Removes one temporary unless a living writer may own it.
void sweep_temporary(const std::string& path, pid_t owner) {
  // A living process of another id owns its file. Our own id proves nothing: in a container every
  // run may have the same one. There, and for dead owners (who may only be invisible in another
  // process-id namespace), the lock decides.
  if (owner != getpid() && (kill(owner, 0) == 0 || errno != ESRCH)) return;
  const int fd = os::open(path.c_str(), O_RDWR | O_NONBLOCK | O_NOFOLLOW, 0);
  if (fd < 0) return;
  const bool locked = os::try_lock(fd) == 0;
  const bool lock_unsupported = !locked && errno != EWOULDBLOCK;
  if (locked || (lock_unsupported && owner != getpid())) os::unlink(path.c_str());
  os::close(fd);
}

// Best effort: a left-over that cannot be removed does not hinder the new file.
void sweep_temporaries(const SplitPath& target) {
  const auto entries = list_directory(target.folder);
  if (!entries.ok()) return;
  for (const std::string& entry : *entries) {
    if (const auto owner = temporary_owner(entry, target.name))
      sweep_temporary(target.folder + "/" + entry, *owner);
  }
}

Status refuse_bad_target(const std::string& path, const SplitPath& target) {
  if (path.find('\0') != std::string::npos)
    return Status::error(StatusCode::kInvalidArgument, "%s: the path contains a NUL byte",
                         path.c_str());
  struct stat info {};
  if (os::stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode))
      return Status::error(StatusCode::kInvalidArgument,
                           "%s: the name of a file to write expected, found a folder",
                           path.c_str());
    // Renaming over /dev/null as root would replace the device.
    if (!S_ISREG(info.st_mode))
      return Status::error(StatusCode::kInvalidArgument,
                           "%s: a regular file expected, found a device, pipe or socket",
                           path.c_str());
  } else if (errno != ENOENT && errno != ENOTDIR) {
    return os::error("stat", path, errno);
  }
  if (target.name.empty() || target.name == "." || target.name == "..")
    return Status::error(StatusCode::kInvalidArgument, "\"%s\" is not the name of a file to write",
                         path.c_str());
  if (os::stat(target.folder.c_str(), &info) != 0) return os::error("find", target.folder, errno);
  if (!S_ISDIR(info.st_mode))
    return Status::error(StatusCode::kNotFound, "%s: a folder expected, found a file",
                         target.folder.c_str());
  return {};
}

}  // namespace

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : file_(std::move(other.file_)), target_(std::exchange(other.target_, {})) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this != &other) {
    discard();
    file_ = std::move(other.file_);
    target_ = std::exchange(other.target_, {});
  }
  return *this;
}

AtomicFile::~AtomicFile() {
  discard();
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  const SplitPath target = split(path);
  FLEXQ_RETURN_IF_ERROR(refuse_bad_target(path, target));
  sweep_temporaries(target);

  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    File temporary;
    temporary.path_ = target.folder + "/." + target.name + std::string(kInfix) +
                      std::to_string(getpid()) + "-" + std::to_string(next_counter.fetch_add(1));
    temporary.fd_ = os::open(temporary.path_.c_str(), O_RDWR | O_CREAT | O_EXCL, 0666);
    if (temporary.fd_ < 0 && errno == EEXIST) continue;
    if (temporary.fd_ < 0) return os::error("create", temporary.path_, errno);
    AtomicFile file;
    file.file_ = std::move(temporary);
    file.target_ = path;
    // Between open and lock another writer's sweep may take the file away; then it has no name.
    // A file system without locks is served by the process id alone.
    const bool contended = os::try_lock(file.file_.fd_) != 0 && errno == EWOULDBLOCK;
    struct stat info {};
    if (os::fstat(file.file_.fd_, &info) != 0) return os::error("stat", file.file_.path_, errno);
    if (!contended && info.st_nlink > 0) return file;
  }
  return Status::error(StatusCode::kIo, "%s: no unused name for a temporary after %d attempts",
                       path.c_str(), kMaxAttempts);
}

Status AtomicFile::keep_permissions() {
  struct stat info {};
  if (os::stat(target_.c_str(), &info) != 0) return os::error("stat", target_, errno);
  if (os::fchmod(file_.fd_, info.st_mode & 0777) != 0)
    return os::error("set the permissions of", file_.path_, errno);
  return {};
}

Status AtomicFile::write_at(int64_t offset, std::span<const uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = os::pwrite(file_.fd_, bytes.data() + done, bytes.size() - done,
                                 offset + static_cast<int64_t>(done));
    if (n < 0) return os::error("write", target_, errno);
    if (n == 0)
      return Status::error(StatusCode::kIo, "%s: cannot write: no progress at offset %lld",
                           target_.c_str(), static_cast<long long>(offset));
    done += static_cast<size_t>(n);
  }
  return {};
}

Status AtomicFile::publish() {
  if (file_.fd_ < 0)
    return Status::error(StatusCode::kInvalidState, "the file was already published or discarded");
  // The folder is opened first: after the rename only its sync can still fail.
  const SplitPath target = split(target_);
  File folder;
  folder.path_ = target.folder;
  folder.fd_ = os::open(target.folder.c_str(), O_RDONLY | O_DIRECTORY, 0);
  Status status;
  if (folder.fd_ < 0) {
    status = os::error("open", target.folder, errno);
  } else if (os::fsync(file_.fd_) != 0) {
    status = os::error("write", target_, errno);
  } else if (os::rename(file_.path_.c_str(), target_.c_str()) != 0) {
    status = os::error("rename the finished file to its name", target_, errno);
  }
  if (!status.ok()) {
    discard();
    return status;
  }
  file_ = File();
  // Some file systems cannot sync a folder and say EINVAL; there is nothing more to do there.
  if (os::fsync(folder.fd_) != 0 && errno != EINVAL && errno != ENOTSUP)
    return os::error("sync its folder (the complete file is in place)", target_, errno);
  return {};
}

void AtomicFile::discard() {
  if (file_.fd_ < 0) return;
  os::unlink(file_.path_.c_str());
  file_ = File();
}

}  // namespace flexq
