// Makes the k-th allocation of the process fail, and counts what is allocated. A program that links
// allocation_faults.cpp gets its operator new and delete and, outside sanitizer builds, its malloc
// family, so that zstd, libcrypto and the C library are covered too.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace flexq::test {

// The library's funnel of large buffers (base/memory.h), or every allocation of the heap.
enum class Allocations { kBuffers, kHeap };

// While one lives, the k-th allocation from its creation on (counted from 0, over all threads)
// fails; with `onward` every later one too. One at a time.
class AllocationFault {
 public:
  AllocationFault(Allocations which, int64_t k, bool onward);
  ~AllocationFault();
  AllocationFault(const AllocationFault&) = delete;
  AllocationFault& operator=(const AllocationFault&) = delete;

  bool fired() const;
  int64_t count() const;  // allocations asked for so far
};

struct HeapUse {
  int64_t live_blocks;
  int64_t live_bytes;
  int64_t peak_bytes;  // since reset_heap_peak()
};
HeapUse heap_use();
void reset_heap_peak();

// While it lives, blocks given back to the heap are searched for these texts, which it borrows.
class FreedMemoryWatch {
 public:
  explicit FreedMemoryWatch(const std::vector<std::string>& texts);
  ~FreedMemoryWatch();
  FreedMemoryWatch(const FreedMemoryWatch&) = delete;
  FreedMemoryWatch& operator=(const FreedMemoryWatch&) = delete;
  int64_t n_found() const;
};

}  // namespace flexq::test
