// Work on a stream as a CUDA graph: captured once, then queued with one call. And the graphs of an
// executor, found by what they depend on.
#pragma once

#include <array>
#include <memory>
#include <utility>

#include "base/thread_pool.h"
#include "device/cuda/cuda_buffer.h"

namespace flexq {

class CudaGraph {
 public:
  CudaGraph() = default;
  CudaGraph(CudaGraph&& other) noexcept { swap(other); }
  CudaGraph& operator=(CudaGraph&& other) noexcept {
    swap(other);
    return *this;
  }
  ~CudaGraph();
  // What `queue` queues on the stream becomes the graph and is not run. Whatever fails, the stream
  // is usable afterwards.
  static Result<CudaGraph> capture(std::shared_ptr<CudaSession> session, const CudaStream& stream,
                                   FunctionRef<Status()> queue);
  Status launch(const CudaStream& stream) const;

 private:
  void swap(CudaGraph& other) {
    std::swap(session_, other.session_);
    std::swap(executable_, other.executable_);
  }
  std::shared_ptr<CudaSession> session_;
  cudaGraphExec_t executable_ = nullptr;
};

// How much of a decode step its graph holds: each value what the one before has, and more.
enum class StepExtent : int32_t {
  kLayers,  // embedding and all layers
  kHidden,  // the final norm of every token
  kLogits,  // lm_head, and flags of the rows that are not finite
};

// All that the launches of a decode step depend on, other than what the staged batch carries.
struct StepKey {
  int32_t n_tokens = 0;
  int32_t most_positions = 0;
  StepExtent extent = StepExtent::kLayers;
  bool operator==(const StepKey&) const = default;
};

// The first step of a key is queued launch by launch, which loads the kernels; the second becomes a
// graph, and those that follow are that graph. A graph is for speed only: where CUDA has no memory
// for it, launches go on one by one. The graph unused for the longest time makes room.
class StepGraphs {
 public:
  static constexpr size_t kMost = 16;

  explicit StepGraphs(std::shared_ptr<CudaSession> session) : session_(std::move(session)) {}
  // Queues the work of `queue`, which depends on the key only.
  Status run(const StepKey& key, const CudaStream& stream, FunctionRef<Status()> queue);

 private:
  enum class State { kUnused, kSeen, kReady, kRefused };
  struct Slot {
    StepKey key;
    State state = State::kUnused;
    int64_t last_use = 0;
    CudaGraph graph;
  };
  Slot& slot_of(const StepKey& key, const CudaStream& stream);

  const std::shared_ptr<CudaSession> session_;
  std::array<Slot, kMost> slots_;
  int64_t n_uses_ = 0;
};

}  // namespace flexq
