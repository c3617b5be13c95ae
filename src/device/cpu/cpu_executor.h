// The steps of a forward pass on the CPU: splits each step over the thread pool by tokens or by
// output rows, never inside a sum, so that results do not depend on the number of threads.
#pragma once

#include "device/cpu/cpu_linear.h"
#include "device/cpu/cpu_workspace.h"
#include "device/device.h"
#include "kernels/cpu/cpu_kernels.h"

namespace flexq {

class CpuExecutor : public Executor {
 public:
  CpuExecutor(const CpuKernels& kernels, const ExecutorShape& shape, const CpuWorkspace& buffers,
              int64_t workspace_bytes, std::span<uint8_t> pages, ThreadPool& pool);

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
  Result<const float*> hidden_row(int32_t row) override { return hidden(row); }
  Result<const float*> logits_row(int32_t row) override { return logits_of(row); }
  Status save_residual(float* rows) override;
  Status restore_residual(const float* rows) override;
  void observe_inputs(InputObserver* observer) override { observer_ = observer; }
  Status copy_page(int32_t from, int32_t to) override;
  Status read_page(int32_t page, std::span<uint8_t> to) override;
  Status write_page(int32_t page, std::span<const uint8_t> from) override;
  Status poison_workspace() override;

 private:
  const float* hidden(int32_t row) const { return buffers_.hidden + int64_t{row} * shape_.n_embd; }
  const float* logits_of(int32_t row) const {
    return buffers_.logits + int64_t{row} * shape_.n_vocab;
  }
  // The rows of an input as linear layers take them, shown to the observer first.
  LinearInput input_at(InputPoint point, const float* rows, int64_t width) const;
  // x += W input + bias
  void add_projection(const DeviceLinear& linear, LinearInput input);
  void normalize(const float* norm);
  // Writes one row of K or V, (head_dim), into its place in a page.
  void store_kv_row(const float* row, int32_t page, int64_t head_offset_bytes, int32_t slot);
  // Byte offset in a page of (layer, K = 0 or V = 1, KV head).
  int64_t head_offset(int32_t layer, int32_t kv, int32_t head) const;

  const CpuKernels& kernels_;
  const ExecutorShape shape_;
  const CpuWorkspace buffers_;
  const int64_t workspace_bytes_;
  const std::span<uint8_t> pages_;
  const int64_t page_bytes_;
  ThreadPool& pool_;
  const CpuLinear linear_;
  ForwardBatch batch_;
  InputObserver* observer_ = nullptr;
};

}  // namespace flexq
