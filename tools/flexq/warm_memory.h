// Memory for weights that this process has already written to, so that a benchmark of loading
// leaves out the time in which the system hands out memory.
#pragma once

#include <atomic>
#include <cstdint>

namespace flexq_tool {

// One buffer, in 2 MiB pages where the system gives them. After offer() it becomes the library's
// next host buffer of exactly its size; all others come from the C library.
class WarmMemory {
 public:
  // Becomes the process's allocator: before any of the library's large buffers is in use.
  WarmMemory();
  WarmMemory(const WarmMemory&) = delete;
  WarmMemory& operator=(const WarmMemory&) = delete;
  ~WarmMemory();  // gives the allocator back: after the last of the library's large buffers

  // Both while no model uses the memory. The first throws std::bad_alloc.
  void resize(int64_t n_bytes);
  void offer() { offered_ = true; }

 private:
  static void* allocate(int64_t n_bytes, int64_t alignment, void* self);
  static void release(void* memory, int64_t n_bytes, void* self);

  void* memory_ = nullptr;
  int64_t size_ = 0;
  std::atomic<bool> offered_{false};
};

}  // namespace flexq_tool
