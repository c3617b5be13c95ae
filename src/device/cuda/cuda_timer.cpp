#include "device/cuda/cuda_timer.h"

#include <algorithm>
#include <vector>

#include "device/cuda/cuda_graph.h"

namespace flexq {
namespace {

// Of one graph: at least two, so that no call finds its weights in the cache; not so many that
// recording them takes longer than running them.
constexpr double kLeastCalls = 2;
constexpr double kMostCalls = 512;

}  // namespace

Result<CudaTimer> CudaTimer::create(std::shared_ptr<CudaSession> session) {
  CudaTimer timer;
  FLEXQ_ASSIGN_OR_RETURN(timer.begin_, CudaEvent::create(session));
  FLEXQ_ASSIGN_OR_RETURN(timer.end_, CudaEvent::create(session));
  FLEXQ_ASSIGN_OR_RETURN(timer.stream_, CudaStream::create(session));
  timer.session_ = std::move(session);
  return timer;
}

Result<double> CudaTimer::elapsed(FunctionRef<Status()> queue) const {
  FLEXQ_RETURN_IF_ERROR(begin_.record(stream_));
  FLEXQ_RETURN_IF_ERROR(queue());
  FLEXQ_RETURN_IF_ERROR(end_.record(stream_));
  FLEXQ_RETURN_IF_ERROR(end_.synchronize("a timed kernel"));
  float milliseconds = 0;
  FLEXQ_RETURN_IF_ERROR(
      session_->check(session_->runtime().event_elapsed_ms(&milliseconds, begin_.get(), end_.get()),
                      "reading the clock"));
  return 1000.0 * static_cast<double>(milliseconds);
}

Result<double> CudaTimer::time(double graph_us, int32_t repeats,
                               FunctionRef<Status(int64_t)> queue) const {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  // The first call loads code, which a recording may not; the second tells how many a graph needs.
  double call_us = 0;
  for (int64_t i = 0; i < 2; ++i) {
    FLEXQ_ASSIGN_OR_RETURN(call_us, elapsed([&] { return queue(i); }));
  }
  const auto n_calls =
      static_cast<int64_t>(std::clamp(graph_us / std::max(call_us, 1e-3), kLeastCalls, kMostCalls));
  FLEXQ_ASSIGN_OR_RETURN(const CudaGraph graph, CudaGraph::capture(session_, stream_, [&] {
                           for (int64_t i = 0; i < n_calls; ++i)
                             FLEXQ_RETURN_IF_ERROR(queue(i));
                           return Status();
                         }));
  std::vector<double> times;
  for (int32_t repeat = -1; repeat < repeats; ++repeat) {  // the first one warms up
    FLEXQ_ASSIGN_OR_RETURN(const double us, elapsed([&] { return graph.launch(stream_); }));
    if (repeat >= 0) times.push_back(us / static_cast<double>(n_calls));
  }
  const auto middle = times.begin() + static_cast<ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

}  // namespace flexq
