#include "warm_memory.h"

#include <flexq.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace flexq_tool {
namespace {

constexpr int64_t kHugePageBytes = int64_t{2} << 20;

}  // namespace

WarmMemory::WarmMemory() {
  if (flexq_set_allocator(allocate, release, this) != FLEXQ_OK) throw std::bad_alloc();
}

WarmMemory::~WarmMemory() {
  flexq_set_allocator(nullptr, nullptr, nullptr);
  std::free(memory_);
}

void WarmMemory::resize(int64_t n_bytes) {
  if (n_bytes == size_) return;
  std::free(std::exchange(memory_, nullptr));
  size_ = 0;
  const int64_t padded = (n_bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  memory_ = std::aligned_alloc(static_cast<size_t>(kHugePageBytes), static_cast<size_t>(padded));
  if (memory_ == nullptr) throw std::bad_alloc();
  (void)madvise(memory_, static_cast<size_t>(padded), MADV_HUGEPAGE);
  std::memset(memory_, 1, static_cast<size_t>(padded));
  size_ = n_bytes;
}

void* WarmMemory::allocate(int64_t n_bytes, int64_t alignment, void* self) {
  auto* warm = static_cast<WarmMemory*>(self);
  if (n_bytes == warm->size_ && warm->offered_.exchange(false)) return warm->memory_;
  void* memory = nullptr;
  const int error =
      posix_memalign(&memory, static_cast<size_t>(alignment), static_cast<size_t>(n_bytes));
  return error == 0 ? memory : nullptr;
}

void WarmMemory::release(void* memory, int64_t, void* self) {
  if (memory != static_cast<const WarmMemory*>(self)->memory_) std::free(memory);
}

}  // namespace flexq_tool
