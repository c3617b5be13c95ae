// A file whose contents must not stay in memory.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace flexq_tool {

// Holds a small file and overwrites it at the end.
class SecretFile {
 public:
  SecretFile() = default;
  ~SecretFile();
  SecretFile(const SecretFile&) = delete;
  SecretFile& operator=(const SecretFile&) = delete;

  // Reads a file, or standard input for "-". A failure is reported. Returns an exit code.
  int read(const std::string& path);

  const char* data() const { return bytes_.data(); }
  int64_t size() const { return static_cast<int64_t>(n_bytes_); }

 private:
  int read_to_end(int descriptor, const std::string& name);

  std::array<char, 16384> bytes_;
  size_t n_bytes_ = 0;
};

}  // namespace flexq_tool
