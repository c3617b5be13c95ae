#include "device/cuda/cuda_workspace.h"

#include <algorithm>

#include "base/checked.h"
#include "device/cuda/cuda_batch.h"
#include "device/cuda/cuda_tensor.h"
#include "device/workspace_carver.h"

namespace flexq {
namespace {

void take_rows(WorkspaceCarver& carver, CudaRows& rows, int64_t n_rows, int64_t n_cols) {
  rows.stride = align_up(n_cols, kCudaRowAlignment);
  carver.take(rows.data, n_rows, rows.stride);
}

// The most that any kernel of a pass asks for, for every number of tokens up to the chunk: kernels
// for few tokens may need more than those for many.
int64_t most_scratch_bytes(const ExecutorShape& shape) {
  struct Shape {
    int64_t n_rows, n_cols;
  };
  const int64_t q_width = int64_t{shape.n_heads} * shape.head_dim;
  const int64_t kv_width = int64_t{shape.n_kv_heads} * shape.head_dim;
  const Shape linears[] = {{q_width, shape.n_embd},
                           {kv_width, shape.n_embd},
                           {shape.n_embd, q_width},
                           {shape.n_ff, shape.n_embd},
                           {shape.n_embd, shape.n_ff}};
  int64_t most =
      cuda_sample_scratch_bytes(shape.n_vocab, std::min<int64_t>(shape.n_outputs, kMaxSampleRows));
  for (int64_t n = 1; n <= shape.chunk_tokens; ++n) {
    for (const Shape& linear : linears) {
      if (shape.quantizes_activations)
        most = std::max(most, cuda_linear_int_scratch_bytes(linear.n_rows, linear.n_cols, n));
    }
    most = std::max(
        most, cuda_attention_scratch_bytes(shape.n_heads, shape.head_dim, n, shape.context_tokens));
  }
  return most;
}

Status too_large(const ExecutorShape& shape) {
  return Status::error(StatusCode::kLimitExceeded,
                       "workspace of %d tokens and %d output rows does not fit memory",
                       shape.chunk_tokens, shape.n_outputs);
}

}  // namespace

Result<int64_t> carve_cuda_workspace(const ExecutorShape& shape, uint8_t* base,
                                     CudaWorkspace* buffers) {
  const int64_t chunk = shape.chunk_tokens;
  const int64_t outputs = shape.n_outputs;
  const int64_t q_width = int64_t{shape.n_heads} * shape.head_dim;
  const int64_t kv_width = int64_t{shape.n_kv_heads} * shape.head_dim;
  CudaWorkspace unused;
  CudaWorkspace& out = buffers != nullptr ? *buffers : unused;
  WorkspaceCarver carver(base, kCudaTensorAlignment);
  take_rows(carver, out.x, chunk, shape.n_embd);
  take_rows(carver, out.normed, chunk, shape.n_embd);
  take_rows(carver, out.q, chunk, q_width);
  take_rows(carver, out.k, chunk, kv_width);
  take_rows(carver, out.v, chunk, kv_width);
  take_rows(carver, out.attended, chunk, q_width);
  take_rows(carver, out.gate, chunk, shape.n_ff);
  take_rows(carver, out.up, chunk, shape.n_ff);
  take_rows(carver, out.hidden, std::max(outputs, chunk), shape.n_embd);
  take_rows(carver, out.logits, outputs, shape.n_vocab);
  if (shape.quantizes_activations) {
    const int64_t widest = std::max({int64_t{shape.n_embd}, q_width, int64_t{shape.n_ff}});
    const int64_t groups = ceil_div(widest, kGroupSize);
    carver.take(out.codes.codes, chunk, groups * kGroupSize);
    carver.take(out.codes.scales, chunk, groups);
  }
  carver.take(out.batch, 1, cuda_batch_bytes(shape));
  carver.take(out.rows, 1, std::max(outputs, chunk));
  carver.take(out.targets, 1, outputs);
  carver.take(out.log_probs, 1, outputs);
  carver.take(out.samples, 1, outputs);
  if (!carver.used().valid()) return too_large(shape);
  // Last, since only shapes whose rows fit memory may be multiplied by kernels' own formulas.
  out.scratch_bytes = most_scratch_bytes(shape);
  carver.take(out.scratch, 1, out.scratch_bytes);
  if (!carver.used().valid()) return too_large(shape);
  return carver.used().value();
}

Result<int64_t> carve_cuda_host_workspace(const ExecutorShape& shape, uint8_t* base,
                                          CudaHostWorkspace* buffers) {
  const int64_t outputs = shape.n_outputs;
  CudaHostWorkspace unused;
  CudaHostWorkspace& out = buffers != nullptr ? *buffers : unused;
  WorkspaceCarver carver(base, kDeviceAlignment);
  carver.take(out.batch, 1, cuda_batch_bytes(shape));
  carver.take(out.rows, 1, std::max<int64_t>(outputs, shape.chunk_tokens));
  carver.take(out.flags, 2, outputs);
  carver.take(out.targets, 1, outputs);
  carver.take(out.log_probs, 1, outputs);
  carver.take(out.samples, 1, outputs);
  carver.take(out.logits, outputs, shape.n_vocab);
  carver.take(out.hidden, outputs, shape.n_embd);
  if (!carver.used().valid()) return too_large(shape);
  return carver.used().value();
}

}  // namespace flexq
