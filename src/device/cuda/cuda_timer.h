// Times device work by the device's clock, as one graph that makes many calls: neither the host's
// launches nor the clock's grain count.
#pragma once

#include <memory>

#include "base/thread_pool.h"
#include "device/cuda/cuda_buffer.h"

namespace flexq {

class CudaTimer {
 public:
  static Result<CudaTimer> create(std::shared_ptr<CudaSession> session);
  const CudaStream& stream() const { return stream_; }
  CudaLaunch launch() const { return session_->launch_on(stream_.get()); }

  // Microseconds of one call, the median of `repeats` replays that take graph_us each (or two calls
  // where those take longer). queue(i) queues call i on the stream; i counts from 0, so that calls
  // can take turns with copies of their data.
  Result<double> time(double graph_us, int32_t repeats, FunctionRef<Status(int64_t)> queue) const;

 private:
  // Microseconds between two points of the stream, around what `queue` queues.
  Result<double> elapsed(FunctionRef<Status()> queue) const;

  std::shared_ptr<CudaSession> session_;
  CudaEvent begin_, end_;
  CudaStream stream_;  // last: its destructor waits
};

}  // namespace flexq
