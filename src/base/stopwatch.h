// Times parts of a work that follow each other.
#pragma once

#include <chrono>
#include <cstdint>

namespace flexq {

class Stopwatch {
 public:
  // Nanoseconds since the last lap, or since the start.
  int64_t lap_ns() {
    const auto now = std::chrono::steady_clock::now();
    const auto since = now - last_;
    last_ = now;
    return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace flexq
