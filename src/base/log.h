// The library's only voice: a process-wide callback, absent by default.
#pragma once

#include <cstdint>

namespace flexq {

enum class LogLevel : int32_t { kError = 1, kWarning = 2, kInfo = 3, kDebug = 4 };

using LogCallback = void (*)(int32_t level, const char* text, int64_t text_bytes, void* user_data);

// Replaces the callback; null silences the library. Thread-safe: when it returns, no other thread
// is still inside the old callback (do not call it from the callback itself).
void set_log_callback(LogCallback callback, LogLevel max_level, void* user_data);

// One line, without a newline; cut at 1023 bytes. Costs one atomic load when nobody listens.
[[gnu::format(printf, 2, 3)]] void log(LogLevel level, const char* format, ...);

}  // namespace flexq
