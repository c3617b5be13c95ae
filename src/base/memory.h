// The allocation funnel: every large host buffer (weights, KV pages, workspace, chunk staging)
// comes from here, so that hosts can supply memory, tests can make the k-th allocation fail, and
// plans can be compared with what was really taken.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"

namespace flexq {

inline constexpr int64_t kHostAlignment = 64;  // one cache line; every HostBuffer starts on one

// Bytes and buffers handed out by the funnel and not yet returned, over the whole process.
struct HostMemoryCounters {
  int64_t live_bytes;
  int64_t peak_bytes;
  int64_t live_buffers;
};
HostMemoryCounters host_memory_counters();
void reset_host_memory_peak();

// The host's memory in place of the C library's.
struct HostAllocator {
  // `bytes` (1 or more) aligned to `alignment`, a power of two; null when there is no memory.
  void* (*allocate)(int64_t bytes, int64_t alignment, void* user_data) = nullptr;
  // Takes back what allocate() gave, with the same size.
  void (*release)(void* memory, int64_t bytes, void* user_data) = nullptr;
  void* user_data = nullptr;
};

// Where all later buffers come from; null functions bring the C library back. Both functions are
// called from any thread, several at once, and must not call this. kInvalidState while any buffer
// is live, kInvalidArgument when only one function is given.
Status set_host_allocator(const HostAllocator& allocator);

// Test hook: consulted before each allocation with its size; returning false makes it fail.
// Null (the default) removes it. Not for concurrent change while buffers are being allocated.
using AllocationGate = bool (*)(int64_t bytes, void* user_data);
void set_allocation_gate(AllocationGate gate, void* user_data);

// Owns `size()` bytes aligned to kHostAlignment, not initialised. Movable, empty by default.
class HostBuffer {
 public:
  HostBuffer() = default;
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;
  ~HostBuffer();

  // `what` is a string literal that names the buffer in an out-of-memory message.
  // bytes = 0 gives an empty buffer without touching the funnel.
  static Result<HostBuffer> allocate(int64_t bytes, const char* what);

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::span<uint8_t> span() { return {data_, static_cast<size_t>(size_)}; }
  std::span<const uint8_t> span() const { return {data_, static_cast<size_t>(size_)}; }
  void release();

 private:
  uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace flexq
