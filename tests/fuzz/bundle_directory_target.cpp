// Header and directory of a bundle, in memory: everything that happens before the first chunk is
// read. First byte of an input:
//   0  the rest is a file from its first byte on
//   1  the rest is a directory, which gets a header with right sizes and hash
//   2  64 bytes of header, then a directory: only the hash is made right
//   3  as 1, and signed: the key is required
//   4  96 bytes of signature and key, then a directory as in 1
// Segments are zeros, as many as the header or the directory says.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "bundle/bundle_header.h"
#include "fuzz/bundle_use.h"
#include "support/c_handles.h"

namespace flexq::test {
namespace {

constexpr size_t kHeaderFieldBytes = 64;  // what the hash covers
constexpr size_t kFileBytesAt = 40;
constexpr size_t kHashAt = 64;
constexpr size_t kSignatureAt = 96;
constexpr size_t kSignatureBytes = 96;  // with the key
constexpr size_t kHeader = static_cast<size_t>(kBundleHeaderBytes);

struct VirtualFile {
  std::vector<uint8_t> front;
  int64_t n_bytes = 0;
  bool requires_key = false;

  static int32_t read(int64_t offset, void* buffer, int64_t n_bytes, void* user_data) {
    const auto& file = *static_cast<const VirtualFile*>(user_data);
    const int64_t n_there = std::clamp<int64_t>(std::ssize(file.front) - offset, 0, n_bytes);
    std::memset(buffer, 0, static_cast<size_t>(n_bytes));
    if (n_there > 0) std::memcpy(buffer, file.front.data() + offset, static_cast<size_t>(n_there));
    return 0;
  }
};

VirtualFile file_of(FuzzInput input) {
  VirtualFile file;
  const uint8_t mode = take_byte(input) % 5;
  FuzzInput signature;
  if (mode == 4) {
    signature = input.first(std::min(input.size(), kSignatureBytes));
    input = input.subspan(signature.size());
  }
  if (mode == 1 || mode >= 3) {
    file.n_bytes = segment_base_for(std::ssize(input));
    const std::vector<uint8_t> aligned(input.begin(), input.end());
    if (const auto directory = decode_directory(aligned, "input"); directory.ok()) {
      CheckedSize size(file.n_bytes);
      size.add(segment_bytes(*directory));
      if (size.valid()) file.n_bytes = size.value();
    }
    file.front = sealed_front(input, file.n_bytes);
    std::copy(signature.begin(), signature.end(), file.front.begin() + kSignatureAt);
    file.requires_key = mode == 3;
    if (file.requires_key) sign_front(file.front);
    return file;
  }
  file.front.assign(input.begin(), input.end());
  file.n_bytes = std::ssize(file.front);
  if (mode == 0 || input.size() < kHeaderFieldBytes) return file;
  file.front.insert(file.front.begin() + kHeaderFieldBytes, kHeader - kHeaderFieldBytes, 0);
  const std::span<const uint8_t> bytes = file.front;
  const Sha256Digest digest = directory_hash(bytes, bytes.subspan(kHeader));
  std::copy(digest.begin(), digest.end(), file.front.begin() + kHashAt);
  std::memcpy(&file.n_bytes, file.front.data() + kFileBytesAt, sizeof file.n_bytes);
  file.n_bytes = std::max(file.n_bytes, std::ssize(file.front));
  return file;
}

// What was read can be written, and is read again as the same.
void check_rewriting(const VirtualFile& file) {
  int64_t n_bytes = 0;
  std::memcpy(&n_bytes, file.front.data() + 24, sizeof n_bytes);
  const auto bytes = std::span(file.front).subspan(kHeader, static_cast<size_t>(n_bytes));
  const auto directory = decode_directory(bytes, "input");
  FUZZ_REQUIRE(directory.ok(), directory.status().message());
  // A text that the input holds once, for many entries, is written once for each.
  const auto written = encode_directory(*directory);
  if (!accepted(written.status())) return;
  const auto again = decode_directory(*written, "written");
  FUZZ_REQUIRE(again.ok(), again.status().message());
  const auto rewritten = encode_directory(*again);
  FUZZ_REQUIRE(rewritten.ok() && *rewritten == *written, "another directory");
}

}  // namespace

bool fuzz_bundle_directory(FuzzInput input) {
  VirtualFile file = file_of(input);
  SourceHandle source;
  if (create(source, flexq_source_from_callback, file.n_bytes, VirtualFile::read,
             static_cast<void*>(&file)) != FLEXQ_OK)
    return false;
  if (file.requires_key) require_test_key(source.get());
  if (!plan_bundle(source.get())) return false;
  check_rewriting(file);
  inspect_bundle(source.get());
  return true;
}

}  // namespace flexq::test
