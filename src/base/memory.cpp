#include "base/memory.h"

#include <atomic>
#include <cstdlib>
#include <utility>

namespace flexq {
namespace {

std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> peak_bytes{0};
std::atomic<int64_t> live_buffers{0};

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
  live_buffers.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace

HostMemoryCounters host_memory_counters() {
  return {live_bytes.load(std::memory_order_relaxed), peak_bytes.load(std::memory_order_relaxed),
          live_buffers.load(std::memory_order_relaxed)};
}

void reset_host_memory_peak() {
  peak_bytes.store(live_bytes.load(std::memory_order_relaxed), std::memory_order_relaxed);
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
  void* data = nullptr;
  if (posix_memalign(&data, kHostAlignment, static_cast<size_t>(bytes)) != 0)
    return Status::out_of_memory(what, bytes);
  count_allocation(bytes);
  buffer.data_ = static_cast<uint8_t*>(data);
  buffer.size_ = bytes;
  return buffer;
}

void HostBuffer::release() {
  if (data_ == nullptr) return;
  std::free(data_);
  count_release(size_);
  data_ = nullptr;
  size_ = 0;
}

}  // namespace flexq
