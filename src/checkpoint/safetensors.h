// Reader of one file in the safetensors format (https://github.com/huggingface/safetensors):
//
//   u64 little-endian   n = bytes of the header
//   n bytes             JSON: {"NAME": {"dtype": "BF16", "shape": [..], "data_offsets": [begin,
//                       end]}, .., "__metadata__": {"key": "value", ..}}, padded with spaces
//   the rest            data; offsets count from its first byte
//
// Everything in the header is checked before it is believed: each tensor has exactly the bytes of
// its shape, and together the tensors fill the data without holes or overlaps up to the last byte.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"

namespace flexq {

// The bound of the format's own implementation.
inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr size_t kMaxSafetensorsRank = 4;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // a name the format defines: "F32", "F16", "BF16", "I64", "F8_E4M3" ..
  std::vector<int64_t> shape;  // at most kMaxSafetensorsRank; empty for a scalar
  int64_t offset = 0;          // of the first byte, from the beginning of the file
  int64_t bytes = 0;
};

// "[32, 64]"
std::string shape_text(std::span<const int64_t> shape);

class SafetensorsFile {
 public:
  // Reads and checks the header. Errors name the file: kNotFound, kIo, kCorrupt (with the size
  // expected and found where the file is cut short), kLimitExceeded, kUnsupportedVersion (a dtype
  // that the format did not have).
  static Result<SafetensorsFile> open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  int64_t file_bytes() const { return file_bytes_; }
  // Sorted by name.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }

  // Fills `out` from byte `begin` of a tensor; the range must lie inside it. Thread-safe.
  Status read(const SafetensorsEntry& entry, int64_t begin, std::span<uint8_t> out) const;

 private:
  File file_;
  int64_t file_bytes_ = 0;
  std::vector<SafetensorsEntry> entries_;
};

}  // namespace flexq
