// The buffers of one CUDA executor: one planned block in device memory, and one in pinned host
// memory for what the host hands over and reads back. The same functions size and carve, so the
// plan cannot differ from what is used.
#pragma once

#include "base/status.h"
#include "device/device.h"
#include "kernels/cuda/cuda_kernels.h"

namespace flexq {

// Rows of fp32 start on this many floats: whole cache lines, aligned for every vector load.
inline constexpr int64_t kCudaRowAlignment = 64;

struct CudaWorkspace {
  CudaRows x;                     // (chunk, n_embd): the residual stream
  CudaRows normed;                // (chunk, n_embd), for linears with unquantized input
  CudaRows q;                     // (chunk, n_heads * head_dim)
  CudaRows k, v;                  // (chunk, n_kv_heads * head_dim)
  CudaRows attended;              // (chunk, n_heads * head_dim)
  CudaRows gate, up;              // (chunk, n_ff)
  CudaRows hidden;                // (max(n_outputs, chunk), n_embd)
  CudaRows logits;                // (n_outputs, n_vocab)
  CudaQuantized codes;            // (chunk, widest input): quantized activations
  uint8_t* scratch = nullptr;     // of whichever kernel is running
  int64_t scratch_bytes = 0;      //
  uint8_t* batch = nullptr;       // cuda_batch_bytes()
  int32_t* rows = nullptr;        // (max(n_outputs, chunk)): token rows of final_norm
  int32_t* targets = nullptr;     // (n_outputs): tokens of log_probs
  float* log_probs = nullptr;     // (n_outputs)
  CudaSample* samples = nullptr;  // (n_outputs)
};

// Bytes needed for `shape`; with `base` not null also sets the pointers. kLimitExceeded when the
// sizes do not fit 63 bits.
Result<int64_t> carve_cuda_workspace(const ExecutorShape& shape, uint8_t* base,
                                     CudaWorkspace* buffers);

struct CudaHostWorkspace {
  uint8_t* batch = nullptr;       // as in CudaWorkspace
  int32_t* rows = nullptr;        //
  int32_t* flags = nullptr;       // (2, n_outputs): rows that are not finite; kernels write it
  int32_t* targets = nullptr;     //
  float* log_probs = nullptr;     //
  CudaSample* samples = nullptr;  //
  float* logits = nullptr;        // (n_outputs, n_vocab)
  float* hidden = nullptr;        // (n_outputs, n_embd)
};
Result<int64_t> carve_cuda_host_workspace(const ExecutorShape& shape, uint8_t* base,
                                          CudaHostWorkspace* buffers);

}  // namespace flexq
