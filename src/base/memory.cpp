#include "base/memory.h"

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <shared_mutex>
#include <utility>

namespace flexq {
namespace {

std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> peak_bytes{0};
std::atomic<int64_t> live_buffers{0};

// Shared while a buffer is allocated and counted, exclusive to replace the allocator: so that it
// never changes while a buffer lives, and releasing needs no lock.
std::shared_mutex allocator_mutex;
HostAllocator host_allocator;

AllocationGate allocation_gate = nullptr;
void* allocation_gate_data = nullptr;

void count_allocation(int64_t bytes) {
  const int64_t live = live_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  live_buffers.fetch_add(1, std::memory_order_relaxed);
  int64_t peak = peak_bytes.load(std::memory_order_relaxed);
  while (peak < live && !peak_bytes.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
  }
}

void count_release(int64_t bytes) {
  live_bytes.fetch_sub(bytes, std::memory_order_relaxed);
  // Whoever sees no live buffer also sees that its release is over.
  live_buffers.fetch_sub(1, std::memory_order_release);
}

void* allocate_aligned(int64_t bytes) {
  if (host_allocator.allocate != nullptr)
    return host_allocator.allocate(bytes, kHostAlignment, host_allocator.user_data);
  void* data = nullptr;
  return posix_memalign(&data, kHostAlignment, static_cast<size_t>(bytes)) == 0 ? data : nullptr;
}

void release_aligned(void* data, int64_t bytes) {
  if (host_allocator.release != nullptr) {
    host_allocator.release(data, bytes, host_allocator.user_data);
  } else {
    std::free(data);
  }
}

}  // namespace

HostMemoryCounters host_memory_counters() {
  return {live_bytes.load(std::memory_order_relaxed), peak_bytes.load(std::memory_order_relaxed),
          live_buffers.load(std::memory_order_relaxed)};
}

void reset_host_memory_peak() {
  peak_bytes.store(live_bytes.load(std::memory_order_relaxed), std::memory_order_relaxed);
}

Status set_host_allocator(const HostAllocator& allocator) {
  if ((allocator.allocate == nullptr) != (allocator.release == nullptr))
    return Status::error(StatusCode::kInvalidArgument,
                         "allocator: expected both functions or neither, found only one");
  const std::unique_lock lock(allocator_mutex);
  const int64_t n_live = live_buffers.load(std::memory_order_acquire);
  if (n_live != 0)
    return Status::error(StatusCode::kInvalidState,
                         "allocator: expected a change while no buffer is in use, found %lld "
                         "buffers of %lld bytes",
                         static_cast<long long>(n_live),
                         static_cast<long long>(live_bytes.load(std::memory_order_relaxed)));
  host_allocator = allocator;
  return {};
}

void set_allocation_gate(AllocationGate gate, void* user_data) {
  allocation_gate = gate;
  allocation_gate_data = user_data;
}

HostBuffer::HostBuffer(HostBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

HostBuffer& HostBuffer::operator=(HostBuffer&& other) noexcept {
  if (this != &other) {
    release();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

HostBuffer::~HostBuffer() {
  release();
}

Result<HostBuffer> HostBuffer::allocate(int64_t bytes, const char* what) {
  if (bytes < 0)
    return Status::error(StatusCode::kInternal, "%s: a buffer of %lld bytes was asked for", what,
                         static_cast<long long>(bytes));
  HostBuffer buffer;
  if (bytes == 0) return buffer;
  if (allocation_gate != nullptr && !allocation_gate(bytes, allocation_gate_data))
    return Status::out_of_memory(what, bytes);
  const std::shared_lock lock(allocator_mutex);
  void* data = allocate_aligned(bytes);
  if (data == nullptr) return Status::out_of_memory(what, bytes);
  if (reinterpret_cast<uintptr_t>(data) % kHostAlignment != 0) {
    release_aligned(data, bytes);
    return Status::error(StatusCode::kInvalidState,
                         "allocator: expected memory aligned to %lld bytes for %s, found %p",
                         static_cast<long long>(kHostAlignment), what, data);
  }
  count_allocation(bytes);
  buffer.data_ = static_cast<uint8_t*>(data);
  buffer.size_ = bytes;
  return buffer;
}

void HostBuffer::release() {
  if (data_ == nullptr) return;
  release_aligned(data_, size_);
  count_release(size_);
  data_ = nullptr;
  size_ = 0;
}

}  // namespace flexq
