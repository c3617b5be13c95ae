// The progress of one part of a longer work, as a stretch of the whole's.
#pragma once

#include <cstdint>

#include "bundle/progress.h"

namespace flexq {

// Units that the whole is told in.
inline constexpr int64_t kProgressUnits = 10'000;

// Must outlive the sink.
class ProgressPart {
 public:
  // The part from `begin` to `end` of kProgressUnits.
  ProgressPart(const ProgressSink& whole, int64_t begin, int64_t end)
      : whole_(whole), begin_(begin), end_(end) {}

  ProgressSink sink() { return {callback, this}; }

 private:
  static int32_t callback(int64_t done, int64_t total, void* user_data) {
    const auto& self = *static_cast<const ProgressPart*>(user_data);
    if (self.whole_.callback == nullptr) return 0;
    const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
    const auto units = static_cast<int64_t>(part * static_cast<double>(self.end_ - self.begin_));
    return self.whole_.callback(self.begin_ + units, kProgressUnits, self.whole_.user_data);
  }

  const ProgressSink& whole_;
  const int64_t begin_;
  const int64_t end_;
};

}  // namespace flexq
