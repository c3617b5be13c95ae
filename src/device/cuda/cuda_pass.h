// The steps of a forward pass as launches on one stream: queues them and nothing else.
#pragma once

#include <memory>

#include "device/cuda/cuda_batch.h"
#include "device/cuda/cuda_session.h"
#include "device/cuda/cuda_workspace.h"
#include "device/device.h"

namespace flexq {

// The executor owns everything that this refers to.
class CudaPass {
 public:
  CudaPass(CudaSession& session, const ExecutorShape& shape, std::span<uint8_t> pages)
      : session_(session), shape_(shape), pages_(pages) {}
  // Before the first step. flags: as in CudaHostWorkspace.
  void use(const CudaWorkspace& buffers, int32_t* flags, const CudaLaunch& launch) {
    buffers_ = buffers;
    flags_ = flags;
    launch_ = launch;
  }
  // What the steps that follow work on; in the buffers' batch by the time that they run.
  void begin(const StagedBatch& batch) { staged_ = batch; }

  // As in Executor.
  Status embed(const DeviceMatrix& embedding) const;
  Status attention_in(const DeviceLayer& layer, int32_t layer_index) const;
  Status attention(int32_t layer_index) const;
  Status attention_out(const DeviceLayer& layer) const;
  Status ffn_in(const DeviceLayer& layer) const;
  Status ffn_out(const DeviceLayer& layer) const;
  // hidden[hidden_begin + i] = rms_norm of row rows[i] of x, or of row row_begin + i where `rows`
  // (device memory) is null. nonfinite, (n_rows) or null: becomes 1 for rows of the result that are
  // not finite, here and in logits().
  Status final_norm(const float* norm, const int32_t* rows, int32_t row_begin, int64_t n_rows,
                    int32_t hidden_begin, int32_t* nonfinite) const;
  Status logits(const DeviceMatrix& lm_head, int32_t hidden_begin, int32_t logits_begin,
                int32_t n_rows, int32_t* nonfinite) const;
  // The flags of the logits' rows, and behind them those of the hidden ones.
  Status flag_nonfinite(int32_t n_rows, bool with_hidden) const;

 private:
  // What linears take: rms_norm(rows) times `norm` where there is one, silu(rows) * up where there
  // is that, else the rows as they are.
  struct Source {
    CudaRows rows;
    const float* norm = nullptr;  // (width)
    int64_t width = 0;
    CudaRows up;
  };
  struct Output {
    const DeviceLinear* linear = nullptr;
    CudaRows rows;
  };
  // rows = or += W source + bias for each output: in one launch, with the quantization of their
  // input and, for kSiluMul, with silu(gate) * up in place of gate, where the linears allow it.
  Status multiply(const Source& source, std::span<const Output> outputs, CudaStore store) const;
  // Linears of one format and precision, quantized activations.
  Status multiply_joint(const Source& source, std::span<const Output> outputs,
                        CudaStore store) const;
  Status multiply_float(const CudaRows& rows, const Output& output, CudaStore store) const;
  Status silu_mul() const;
  // Whether ffn_in() leaves gate and up, for ffn_out() to join them as it quantizes.
  bool joins_late(const DeviceLayer& layer) const;
  Status quantize(const Source& source, int32_t bits, const CudaQuantized& codes) const;
  // Whether attention() also rotates and stores.
  bool attends_at_once() const;
  Status check(cudaError_t error, const char* what) const { return session_.check(error, what); }
  CudaKv kv_of(int32_t layer) const;

  CudaSession& session_;
  const ExecutorShape& shape_;
  const std::span<uint8_t> pages_;
  CudaWorkspace buffers_;
  int32_t* flags_ = nullptr;
  CudaLaunch launch_;
  StagedBatch staged_;
};

// Rows from `first` on.
inline CudaRows rows_from(CudaRows rows, int64_t first) {
  return {rows.data + first * rows.stride, rows.stride};
}

}  // namespace flexq
