#include "device/cuda/cuda_graph.h"

#include <algorithm>

namespace flexq {

Result<CudaGraph> CudaGraph::capture(std::shared_ptr<CudaSession> session, const CudaStream& stream,
                                     FunctionRef<Status()> queue) {
  const CudaRuntime& runtime = session->runtime();
  FLEXQ_RETURN_IF_ERROR(
      session->check(runtime.stream_begin_capture(stream.get()), "capturing a graph"));
  Status status = queue();
  if (session->lost()) return status;
  cudaGraph_t captured = nullptr;
  Status ended =
      session->check(runtime.stream_end_capture(stream.get(), &captured), "capturing a graph");
  if (status.ok()) status = std::move(ended);
  CudaGraph graph;
  if (status.ok()) {
    status = session->check(runtime.graph_instantiate(&graph.executable_, captured),
                            "instantiating a graph");
  }
  if (captured != nullptr && !session->lost()) session->note(runtime.graph_destroy(captured));
  if (!status.ok()) return status;
  graph.session_ = std::move(session);
  return graph;
}

CudaGraph::~CudaGraph() {
  if (session_ == nullptr || !session_->enter_to_release()) return;
  session_->note(session_->runtime().graph_exec_destroy(executable_));
}

Status CudaGraph::launch(const CudaStream& stream) const {
  return session_->check(session_->runtime().graph_launch(executable_, stream.get()),
                         "launching a graph");
}

StepGraphs::Slot& StepGraphs::slot_of(const StepKey& key, const CudaStream& stream) {
  Slot* oldest = &slots_.front();
  for (Slot& slot : slots_) {
    if (slot.state != State::kUnused && slot.key == key) return slot;
    if (slot.last_use < oldest->last_use) oldest = &slot;
  }
  // Its last launch may not be over.
  if (oldest->state == State::kReady)
    session_->note(session_->runtime().stream_synchronize(stream.get()));
  *oldest = Slot();
  oldest->key = key;
  return *oldest;
}

Status StepGraphs::run(const StepKey& key, const CudaStream& stream, FunctionRef<Status()> queue) {
  Slot& slot = slot_of(key, stream);
  slot.last_use = ++n_uses_;
  if (slot.state == State::kUnused) {
    slot.state = State::kSeen;
    return queue();
  }
  if (slot.state == State::kSeen) {
    Result<CudaGraph> graph = CudaGraph::capture(session_, stream, queue);
    if (session_->lost()) return session_->lost_status();
    slot.state = graph.ok() ? State::kReady : State::kRefused;
    if (graph.ok()) slot.graph = std::move(graph).value();
  }
  if (slot.state == State::kReady) {
    Status launched = slot.graph.launch(stream);
    if (launched.ok() || session_->lost()) return launched;
    slot.state = State::kRefused;
  }
  return queue();
}

}  // namespace flexq
