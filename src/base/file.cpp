#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <memory>
#include <utility>

#include "base/os_calls.h"

namespace flexq {
namespace {

Status refuse_embedded_nul(const std::string& path) {
  if (path.find('\0') == std::string::npos) return {};
  return Status::error(StatusCode::kInvalidArgument, "%s: the path contains a NUL byte",
                       path.c_str());
}

}  // namespace

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) os::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    path_ = std::move(other.path_);
  }
  return *this;
}

File::~File() {
  if (fd_ >= 0) os::close(fd_);
}

Result<File> File::open_read(const std::string& path) {
  FLEXQ_RETURN_IF_ERROR(refuse_embedded_nul(path));
  File file;
  file.path_ = path;
  // O_NONBLOCK: opening a FIFO that nobody writes to must be an error, not a hang.
  file.fd_ = os::open(path.c_str(), O_RDONLY | O_NONBLOCK, 0);
  if (file.fd_ < 0) return os::error("open", path, errno);
  struct stat info {};
  if (os::fstat(file.fd_, &info) != 0) return os::error("stat", path, errno);
  if (S_ISDIR(info.st_mode))
    return Status::error(StatusCode::kInvalidArgument, "%s: a file expected, found a folder",
                         path.c_str());
  if (!S_ISREG(info.st_mode))
    return Status::error(StatusCode::kInvalidArgument,
                         "%s: a regular file expected, found a device, pipe or socket",
                         path.c_str());
  return file;
}

Result<int64_t> File::size() const {
  struct stat info {};
  if (os::fstat(fd_, &info) != 0) return os::error("stat", path_, errno);
  return static_cast<int64_t>(info.st_size);
}

Status File::read_at(int64_t offset, std::span<uint8_t> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const int64_t position = offset + static_cast<int64_t>(done);
    const ssize_t n = os::pread(fd_, out.data() + done, out.size() - done, position);
    if (n < 0) return os::error("read", path_, errno);
    if (n == 0)
      return Status::error(StatusCode::kCorrupt,
                           "%s: %zu bytes expected at offset %lld, but the file ends at %lld",
                           path_.c_str(), out.size(), static_cast<long long>(offset),
                           static_cast<long long>(position));
    done += static_cast<size_t>(n);
  }
  return {};
}

Result<std::string> read_text_file(const std::string& path, int64_t max_bytes) {
  FLEXQ_ASSIGN_OR_RETURN(const File file, File::open_read(path));
  FLEXQ_ASSIGN_OR_RETURN(const int64_t size, file.size());
  if (size > max_bytes)
    return Status::error(StatusCode::kLimitExceeded, "%s: at most %lld bytes expected, found %lld",
                         path.c_str(), static_cast<long long>(max_bytes),
                         static_cast<long long>(size));
  std::string text(static_cast<size_t>(size), '\0');
  FLEXQ_RETURN_IF_ERROR(file.read_at(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
  return text;
}

bool is_directory(const std::string& path) {
  struct stat info {};
  return os::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool is_regular_file(const std::string& path) {
  struct stat info {};
  return os::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

Result<bool> regular_file_exists(const std::string& path) {
  struct stat info {};
  if (os::stat(path.c_str(), &info) == 0) return S_ISREG(info.st_mode);
  if (errno == ENOENT || errno == ENOTDIR) return false;
  return os::error("find", path, errno);
}

Result<std::string> resolve_links(const std::string& path) {
  FLEXQ_RETURN_IF_ERROR(refuse_embedded_nul(path));
  char resolved[PATH_MAX];
  if (os::realpath(path.c_str(), resolved) == nullptr) return os::error("find", path, errno);
  return std::string(resolved);
}

Result<std::vector<std::string>> list_directory(const std::string& path) {
  FLEXQ_RETURN_IF_ERROR(refuse_embedded_nul(path));
  const int fd = os::open(path.c_str(), O_RDONLY | O_DIRECTORY, 0);
  if (fd < 0) return os::error("list", path, errno);
  const auto close_directory = [](DIR* directory) { closedir(directory); };
  const std::unique_ptr<DIR, decltype(close_directory)> directory(fdopendir(fd), close_directory);
  if (directory == nullptr) {
    const int error_number = errno;
    os::close(fd);
    return os::error("list", path, error_number);
  }
  std::vector<std::string> names;
  while (true) {
    errno = 0;  // readdir reports the end and an error alike, by null
    const dirent* entry = readdir(directory.get());
    if (entry == nullptr) break;
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  if (errno != 0) return os::error("list", path, errno);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace flexq
