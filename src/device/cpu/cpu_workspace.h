// The buffers of one CPU executor, carved from one planned block. The same function sizes and
// carves, so the plan cannot differ from what is used.
#pragma once

#include "base/status.h"
#include "device/device.h"

namespace flexq {

struct CpuWorkspace {
  float* x = nullptr;            // (chunk, n_embd): the residual stream
  float* normed = nullptr;       // (chunk, n_embd)
  float* q = nullptr;            // (chunk, n_heads * head_dim)
  float* k = nullptr;            // (chunk, n_kv_heads * head_dim)
  float* v = nullptr;            // (chunk, n_kv_heads * head_dim)
  float* attended = nullptr;     // (chunk, n_heads * head_dim)
  float* projected = nullptr;    // (chunk, n_embd): o_proj, down_proj before they join x
  float* gate = nullptr;         // (chunk, n_ff); becomes silu(gate) * up
  float* up = nullptr;           // (chunk, n_ff)
  float* hidden = nullptr;       // (max(n_outputs, chunk), n_embd)
  float* logits = nullptr;       // (n_outputs, n_vocab)
  float* scores = nullptr;       // (n_threads, context rounded up to 16)
  int8_t* codes = nullptr;       // (chunk, widest input rounded up to 128): quantized activations
  float* code_scales = nullptr;  // (chunk, groups of the widest input)
  int32_t* code_sums = nullptr;  // (chunk, groups of the widest input)
  float* rounded = nullptr;      // (chunk, widest input): activations that went through codes
  const uint8_t** pages = nullptr;  // (n_sequences, pages_per_sequence) page addresses
};

// Bytes needed for `shape`; with `base` not null also sets the pointers. kLimitExceeded when the
// sizes do not fit 63 bits.
Result<int64_t> carve_cpu_workspace(const ExecutorShape& shape, uint8_t* base,
                                    CpuWorkspace* buffers);

// Floats of one thread's row of `scores`.
int64_t score_stride(const ExecutorShape& shape);

}  // namespace flexq
