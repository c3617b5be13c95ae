// The steps of a forward pass as launches on one stream. Nothing waits for the device but what
// hands results to the host; nothing is allocated after create().
#pragma once

#include <memory>
#include <vector>

#include "device/cuda/cuda_batch.h"
#include "device/cuda/cuda_buffer.h"
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
  Result<DeviceSample> sample(int32_t row, const DeviceSampling& sampling) override;
  Result<const float*> hidden_row(int32_t row) override;
  Result<const float*> logits_row(int32_t row) override;
  Status finish() override;
  Status copy_page(int32_t from, int32_t to) override;
  Status poison_workspace() override;

 private:
  CudaExecutor(std::shared_ptr<CudaSession> session, const ExecutorShape& shape,
               std::span<uint8_t> workspace, std::span<uint8_t> pages)
      : session_(std::move(session)), shape_(shape), workspace_(workspace), pages_(pages) {}

  // Input of the linears that follow: rows, and the code buffer holding them at `bits`.
  struct Input {
    CudaRows rows;     // where bits is 16
    int32_t bits = 0;  // of the buffer that is filled; 0: none yet
    CodesOrder order = CodesOrder::kNatural;
    bool normed = false;  // rows are in place too
  };
  // y = rms_norm(x), in the form that a linear asks for; at once for linears that agree.
  Status normalize(const float* norm, const DeviceLinear& linear, Input& input);
  // The buffer of codes in the order that a linear's kernel reads.
  CudaQuantized codes_for(const DeviceLinear& linear) const;
  // out = or += W input + bias
  Status multiply(const DeviceLinear& linear, CudaRows rows, CudaStore store, CudaRows out);
  Status check(cudaError_t error, const char* what) { return session_->check(error, what); }
  CudaKv kv_of(int32_t layer) const;
  Status to_device(void* to, const void* from, int64_t bytes);
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
  CudaStream stream_;       // last: its destructor waits for what uses the others
  CudaLaunch launch_;
  StagedBatch staged_;
  std::vector<uint8_t> fetched_logits_;  // (n_outputs): rows that host_ holds
  std::vector<uint8_t> fetched_hidden_;  // (n_outputs)
};

}  // namespace flexq
