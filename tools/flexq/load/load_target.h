// What a load test sends its requests to.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "load/load_plan.h"

namespace flexq_tool {

struct LoadSample {
  using Clock = std::chrono::steady_clock;

  bool is_refused = false;  // the queue was full
  std::string error;        // empty: none
  int64_t n_generated = 0;
  Clock::time_point begin;
  Clock::time_point first_token;
  Clock::time_point end;
};

// A client of its own thread.
class LoadClient {
 public:
  virtual ~LoadClient() = default;
  // Sends a request and waits for its whole answer, or until a signal came.
  virtual LoadSample run(const LoadRequest& request) = 0;
};

class LoadTarget {
 public:
  virtual ~LoadTarget() = default;
  // From any thread.
  virtual std::unique_ptr<LoadClient> make_client() = 0;
};

}  // namespace flexq_tool
