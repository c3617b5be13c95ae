// How long-running work reports progress and learns that it should stop.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace flexq {

// A callback on the calling thread; a non-zero return cancels the work. Silent when null.
struct ProgressSink {
  int32_t (*callback)(int64_t done_bytes, int64_t total_bytes, void* user_data) = nullptr;
  void* user_data = nullptr;

  // kCancelled when the callback asked to stop.
  Status report(int64_t done_bytes, int64_t total_bytes) const {
    if (callback == nullptr || callback(done_bytes, total_bytes, user_data) == 0) return {};
    return Status::error(StatusCode::kCancelled,
                         "stopped by the progress callback at %lld of %lld bytes",
                         static_cast<long long>(done_bytes), static_cast<long long>(total_bytes));
  }
};

}  // namespace flexq
