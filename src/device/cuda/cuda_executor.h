// The executor on CUDA: one stream. Nothing waits for the device but what hands results to the
// host; nothing is allocated after create().
//
// A pass of one token per sequence, a decode step, is only noted while its steps are asked for and
// queued as a whole, as a graph from its third time on, when somebody wants its results: up to then
// it may still be given up, afterwards it runs to its end. Other passes are queued step by step.
#pragma once

#include <memory>
#include <vector>

#include "device/cuda/cuda_batch.h"
#include "device/cuda/cuda_buffer.h"
#include "device/cuda/cuda_graph.h"
#include "device/cuda/cuda_pass.h"
#include "device/cuda/cuda_workspace.h"
#include "device/device.h"

namespace flexq {

class CudaExecutor : public Executor {
 public:
  // As Device::create_executor.
  static Result<std::unique_ptr<Executor>> create(std::shared_ptr<CudaSession> session,
                                                  const ExecutorShape& shape,
                                                  std::span<uint8_t> workspace,
                                                  std::span<uint8_t> pages);

  Status begin(const ForwardBatch& batch) override;
  Status embed(const DeviceMatrix& embedding) override;
  Status attention_in(const DeviceLayer& layer, int32_t layer_index) override;
  Status attention(int32_t layer_index) override;
  Status attention_out(const DeviceLayer& layer) override;
  Status ffn_in(const DeviceLayer& layer) override;
  Status ffn_out(const DeviceLayer& layer) override;
  Status final_norm(const float* norm, std::span<const int32_t> token_rows,
                    int32_t row_begin) override;
  Status logits(const DeviceMatrix& lm_head, int32_t hidden_begin, int32_t logits_begin,
                int32_t n_rows) override;
  Result<int32_t> find_nonfinite(int32_t n_rows, bool with_hidden) override;
  Status log_probs(std::span<const int32_t> tokens, float* log_probs) override;
  bool can_sample() const override { return true; }
  Status sample(std::span<const DeviceSampling> samplings, DeviceSample* samples) override;
  Result<const float*> hidden_row(int32_t row) override;
  Result<const float*> logits_row(int32_t row) override;
  Status finish() override;
  Status copy_page(int32_t from, int32_t to) override;
  Status read_page(int32_t page, std::span<uint8_t> to) override;
  Status write_page(int32_t page, std::span<const uint8_t> from) override;
  Status poison_workspace() override;

 private:
  CudaExecutor(std::shared_ptr<CudaSession> session, const ExecutorShape& shape,
               std::span<uint8_t> workspace, std::span<uint8_t> pages)
      : session_(std::move(session)),
        shape_(shape),
        workspace_(workspace),
        pages_(pages),
        pass_(*session_, shape_, pages_),
        graphs_(session_) {}

  // What was asked for of a decode step that is not queued yet.
  struct NotedStep {
    bool open = false;
    StepExtent extent = StepExtent::kLayers;
    DeviceMatrix embedding;
    std::vector<const DeviceLayer*> layers;  // those of the model, room for all
    const float* final_norm = nullptr;
    DeviceMatrix lm_head;
  };
  bool notes(StepExtent extent) const { return noted_.open && noted_.extent == extent; }
  // Queues a noted step. One whose layers were not all asked for was given up: it is dropped.
  Status settle();
  Status queue_noted();
  Status check(cudaError_t error, const char* what) { return session_->check(error, what); }
  // Enters the session and queues a noted step, ahead of something else to be queued.
  Status enter_to_queue();
  // Waits for all that was queued.
  Status synchronize(const char* what);
  Status to_device(void* to, const void* from, int64_t bytes);
  Status copy_to_host(void* to, const void* from, int64_t bytes);
  // And waits for it, and all before it.
  Status to_host(void* to, const void* from, int64_t bytes);

  // First, so that it outlives what needs it.
  const std::shared_ptr<CudaSession> session_;
  const ExecutorShape shape_;
  const std::span<uint8_t> workspace_;
  const std::span<uint8_t> pages_;
  CudaWorkspace buffers_;
  PinnedBuffer host_memory_;
  CudaHostWorkspace host_;
  CudaEvent batch_copied_;  // the device has read host_.batch
  CudaEvent rows_copied_;   // and host_.rows
  CudaPass pass_;
  StepGraphs graphs_;
  CudaStream stream_;  // last: its destructor waits for what uses the others
  CudaLaunch launch_;
  StagedBatch staged_;
  NotedStep noted_;
  bool idle_ = true;  // nothing was queued since the host waited for the stream
  // A decode step with logits sets the flags of its rows itself; the host clears them before.
  int32_t n_flagged_ = 0;                // rows of the last pass whose flags are so set; 0: none
  bool flags_are_written_ = false;       // the device may still write flags of a step
  std::vector<uint8_t> fetched_logits_;  // (n_outputs): rows that host_ holds
  std::vector<uint8_t> fetched_hidden_;  // (n_outputs)
};

}  // namespace flexq
