#include "base/memory.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <utility>

namespace flexq {
namespace {

TEST_CASE("memory: buffers are aligned, counted, moved and returned") {
  const HostMemoryCounters before = host_memory_counters();
  reset_host_memory_peak();
  {
    auto first = HostBuffer::allocate(1, "first");
    auto second = HostBuffer::allocate(1000, "second");
    REQUIRE(first.ok());
    REQUIRE(second.ok());
    CHECK(reinterpret_cast<uintptr_t>(first->data()) % kHostAlignment == 0);
    CHECK(reinterpret_cast<uintptr_t>(second->data()) % kHostAlignment == 0);
    CHECK(second->span().size() == 1000);
    CHECK(host_memory_counters().live_bytes == before.live_bytes + 1001);
    CHECK(host_memory_counters().live_buffers == before.live_buffers + 2);
    HostBuffer moved = std::move(*second);
    moved = std::move(*first);  // the second buffer is returned here
    CHECK(host_memory_counters().live_bytes == before.live_bytes + 1);
    moved.release();
    CHECK(moved.empty());
  }
  CHECK(host_memory_counters().live_bytes == before.live_bytes);
  CHECK(host_memory_counters().live_buffers == before.live_buffers);
  CHECK(host_memory_counters().peak_bytes == before.live_bytes + 1001);
}

TEST_CASE("memory: refusals are statuses and leave the counters alone") {
  const HostMemoryCounters before = host_memory_counters();
  CHECK(HostBuffer::allocate(0, "empty")->empty());
  CHECK(HostBuffer::allocate(-1, "negative").status().code() == StatusCode::kInternal);

  int64_t asked = 0;
  set_allocation_gate(
      [](int64_t bytes, void* user_data) {
        *static_cast<int64_t*>(user_data) = bytes;
        return false;
      },
      &asked);
  const auto refused = HostBuffer::allocate(123, "KV pages");
  const auto nothing = HostBuffer::allocate(0, "empty");
  set_allocation_gate(nullptr, nullptr);
  CHECK(refused.status().code() == StatusCode::kOutOfMemory);
  CHECK(refused.status().message() == "out of memory: KV pages needs 123 bytes");
  CHECK(asked == 123);
  CHECK(nothing.ok());
  CHECK(HostBuffer::allocate(123, "KV pages").ok());
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
  // The sanitizers' allocators report a request beyond the address space as an error of their own.
  CHECK(HostBuffer::allocate(std::numeric_limits<int64_t>::max(), "all").status().code() ==
        StatusCode::kOutOfMemory);
#endif
  CHECK(host_memory_counters().live_bytes == before.live_bytes);
  CHECK(host_memory_counters().live_buffers == before.live_buffers);
}

}  // namespace
}  // namespace flexq
