#include "base/log.h"

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <shared_mutex>

namespace flexq {
namespace {

constexpr int kMaxTextBytes = 1023;

// The level that somebody listens to; 0 while nobody does. Read without the lock.
std::atomic<int32_t> listening_level{0};

std::shared_mutex callback_mutex;  // shared while a callback runs, exclusive to replace it
LogCallback log_callback = nullptr;
void* log_user_data = nullptr;

// `size` without the character that a cut at that byte would split (UTF-8).
int whole_characters(const char* text, int size) {
  int start = size;
  while (start > 0 && size - start < 4) {
    const auto byte = static_cast<unsigned char>(text[--start]);
    if ((byte & 0xc0u) == 0x80u) continue;  // a continuation byte: its lead is further left
    const int length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return start + length <= size ? size : start;
  }
  return size;
}

}  // namespace

void set_log_callback(LogCallback callback, LogLevel max_level, void* user_data) {
  const std::unique_lock lock(callback_mutex);
  log_callback = callback;
  log_user_data = user_data;
  listening_level.store(callback == nullptr ? 0 : static_cast<int32_t>(max_level),
                        std::memory_order_relaxed);
}

void log(LogLevel level, const char* format, ...) {
  const auto number = static_cast<int32_t>(level);
  if (number > listening_level.load(std::memory_order_relaxed)) return;
  char text[kMaxTextBytes + 1];
  va_list arguments;
  va_start(arguments, format);
  const int wanted = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (wanted < 0) return;
  const int size = wanted <= kMaxTextBytes ? wanted : whole_characters(text, kMaxTextBytes);
  text[size] = '\0';

  const std::shared_lock lock(callback_mutex);
  if (log_callback == nullptr || number > listening_level.load(std::memory_order_relaxed)) return;
  log_callback(number, text, size, log_user_data);
}

}  // namespace flexq
