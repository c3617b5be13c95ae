#include "reliability/allocation_faults.h"

#include <malloc.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/memory.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FLEXQ_TEST_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FLEXQ_TEST_SANITIZED
#endif

namespace {

// A place for a debugger's breakpoint: where the failing allocation is asked for.
[[gnu::noinline]] void fault_strikes() {
  __asm__ __volatile__("");
}

struct Countdown {
  std::atomic<bool> armed{false};
  std::atomic<bool> onward{false};
  std::atomic<bool> fired{false};
  std::atomic<int64_t> k{0};
  std::atomic<int64_t> count{0};

  // Whether this allocation must fail.
  bool strikes() {
    if (!armed.load(std::memory_order_relaxed)) return false;
    const int64_t index = count.fetch_add(1, std::memory_order_relaxed);
    const int64_t target = k.load(std::memory_order_relaxed);
    if (index != target && !(index > target && onward.load(std::memory_order_relaxed)))
      return false;
    fired.store(true, std::memory_order_relaxed);
    fault_strikes();
    return true;
  }
};

// Constant initialization: allocations come before any constructor of this file could run.
constinit Countdown heap;
constinit Countdown buffers;
constinit std::atomic<int64_t> live_blocks{0};
constinit std::atomic<int64_t> live_bytes{0};
constinit std::atomic<int64_t> peak_bytes{0};

void* counted(void* memory) {
  if (memory == nullptr) return nullptr;
  live_blocks.fetch_add(1, std::memory_order_relaxed);
  const auto size = static_cast<int64_t>(malloc_usable_size(memory));
  const int64_t live = live_bytes.fetch_add(size, std::memory_order_relaxed) + size;
  int64_t peak = peak_bytes.load(std::memory_order_relaxed);
  while (peak < live && !peak_bytes.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
  }
  return memory;
}

// What FreedMemoryWatch looks for; null: nothing.
constinit std::atomic<const std::vector<std::string>*> watched{nullptr};
constinit std::atomic<int64_t> n_watched_found{0};

void look_for_watched(const void* memory) {
  const std::vector<std::string>* texts = watched.load();
  if (texts == nullptr) return;
  for (const std::string& text : *texts)
    if (memmem(memory, malloc_usable_size(const_cast<void*>(memory)), text.data(), text.size()))
      n_watched_found.fetch_add(1);
}

void uncounted(void* memory) {
  if (memory == nullptr) return;
  look_for_watched(memory);
  live_blocks.fetch_sub(1, std::memory_order_relaxed);
  live_bytes.fetch_sub(static_cast<int64_t>(malloc_usable_size(memory)), std::memory_order_relaxed);
}

}  // namespace

#ifdef FLEXQ_TEST_SANITIZED

// The sanitizer owns malloc; the C++ operators are ours.
void* operator new(size_t bytes) {
  void* memory = heap.strikes() ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return counted(memory);
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  const auto unit = static_cast<size_t>(alignment);
  const size_t rounded = (bytes + unit - 1) / unit * unit;
  void* memory = heap.strikes() ? nullptr : std::aligned_alloc(unit, rounded == 0 ? unit : rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return counted(memory);
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return counted(heap.strikes() ? nullptr : std::malloc(bytes == 0 ? 1 : bytes));
}
void operator delete(void* memory) noexcept {
  uncounted(memory);
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  operator delete(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  operator delete(memory);
}
void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  operator delete(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  operator delete(memory);
}

#else

// glibc's own allocator, under the names that it keeps for whoever replaces malloc.
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t n, size_t bytes);
void* __libc_realloc(void* memory, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void* memory);

static void* out_of_memory() {
  errno = ENOMEM;
  return nullptr;
}

void* malloc(size_t bytes) {
  return heap.strikes() ? out_of_memory() : counted(__libc_malloc(bytes));
}
void* calloc(size_t n, size_t bytes) {
  return heap.strikes() ? out_of_memory() : counted(__libc_calloc(n, bytes));
}
void* realloc(void* memory, size_t bytes) {
  if (heap.strikes()) return out_of_memory();
  uncounted(memory);
  void* moved = __libc_realloc(memory, bytes);
  if (moved == nullptr && bytes != 0) {
    counted(memory);
    return nullptr;
  }
  return counted(moved);
}
void* memalign(size_t alignment, size_t bytes) {
  return heap.strikes() ? out_of_memory() : counted(__libc_memalign(alignment, bytes));
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  return memalign(alignment, bytes);
}
int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  void* made = memalign(alignment, bytes);
  if (made == nullptr) return ENOMEM;
  *memory = made;
  return 0;
}
void free(void* memory) {
  uncounted(memory);
  __libc_free(memory);
}
}

#endif

namespace flexq::test {
namespace {

bool admit_buffer(int64_t, void*) {
  return !buffers.strikes();
}

Countdown& armed_countdown() {
  return buffers.armed.load() ? buffers : heap;
}

}  // namespace

AllocationFault::AllocationFault(Allocations which, int64_t k, bool onward) {
  Countdown& countdown = which == Allocations::kBuffers ? buffers : heap;
  countdown.k = k;
  countdown.onward = onward;
  countdown.count = 0;
  countdown.fired = false;
  if (which == Allocations::kBuffers) set_allocation_gate(admit_buffer, nullptr);
  countdown.armed = true;
}

AllocationFault::~AllocationFault() {
  buffers.armed = false;
  heap.armed = false;
  set_allocation_gate(nullptr, nullptr);
}

bool AllocationFault::fired() const {
  return armed_countdown().fired.load();
}

int64_t AllocationFault::count() const {
  return armed_countdown().count.load();
}

FreedMemoryWatch::FreedMemoryWatch(const std::vector<std::string>& texts) {
  n_watched_found = 0;
  watched = &texts;
}

FreedMemoryWatch::~FreedMemoryWatch() {
  watched = nullptr;
}

int64_t FreedMemoryWatch::n_found() const {
  return n_watched_found.load();
}

HeapUse heap_use() {
  return {live_blocks.load(), live_bytes.load(), peak_bytes.load()};
}

void reset_heap_peak() {
  peak_bytes.store(live_bytes.load());
}

}  // namespace flexq::test
