// The OS funnel: the only part of the library that opens, reads, writes, syncs or renames files.
// Every call retries EINTR and finishes short reads and writes; every failure names the path.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace flexq {

// A file descriptor. Movable; closed by the destructor.
class File {
 public:
  File() = default;
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  // A regular file for reading. A missing path is kNotFound, a folder kInvalidArgument.
  static Result<File> open_read(const std::string& path);

  const std::string& path() const { return path_; }
  Result<int64_t> size() const;
  // Fills `out` or fails; end of file before that is kCorrupt. Thread-safe (pread).
  Status read_at(int64_t offset, std::span<uint8_t> out) const;

 private:
  friend class AtomicFile;
  int fd_ = -1;
  std::string path_;
};

// Reads a whole file that must not be larger than `max_bytes` (kLimitExceeded otherwise).
Result<std::string> read_text_file(const std::string& path, int64_t max_bytes);

bool is_directory(const std::string& path);
bool is_regular_file(const std::string& path);
// The same for files that may be missing: an error of the look-up is an error, not an absence.
Result<bool> regular_file_exists(const std::string& path);
// The path without symbolic links that `path` leads to.
Result<std::string> resolve_links(const std::string& path);
// Names (not paths) of the entries of a folder, sorted.
Result<std::vector<std::string>> list_directory(const std::string& path);

// A file that appears under its name only when complete. Data goes to a temporary in the same
// folder; publish() syncs it, renames it over `path` and syncs the folder; until then, and on
// every failure or destruction, whatever was at `path` stays as it was and the temporary is
// removed. create() also removes temporaries that dead processes left for the same path.
class AtomicFile {
 public:
  AtomicFile() = default;
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();

  // `path` that is a folder is kInvalidArgument; a missing parent folder kNotFound.
  static Result<AtomicFile> create(const std::string& path);
  // Where it will appear.
  const std::string& path() const { return target_; }
  // Gives the new file the permissions of the one that is at `path` now. Without it, new files
  // follow the process's umask.
  Status keep_permissions();
  Status write_at(int64_t offset, std::span<const uint8_t> bytes);
  Status publish();

 private:
  void discard();
  File file_;  // the temporary
  std::string target_;
};

}  // namespace flexq
