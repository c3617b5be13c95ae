// Random-access bytes: a file, a block of the caller's memory, or the caller's read callbacks.
// The bundle reader sees nothing else, so all three take the same, fully checked path.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"

namespace flexq {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // How the source is named in messages: a path, "memory", "callbacks".
  virtual const std::string& name() const = 0;
  virtual int64_t size() const = 0;
  // Fills the whole of `out` from `offset`; reaching past size() is kCorrupt. Safe to call from
  // several threads at once.
  virtual Status read_at(int64_t offset, std::span<uint8_t> out) = 0;
};

Result<std::unique_ptr<ByteSource>> open_file_source(const std::string& path);
// Borrows `bytes`: they must outlive the source.
std::unique_ptr<ByteSource> make_memory_source(std::span<const uint8_t> bytes);
// Forwards to a source that is shared between several openings.
std::unique_ptr<ByteSource> share_source(std::shared_ptr<ByteSource> source);

}  // namespace flexq
