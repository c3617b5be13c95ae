#include "device/cpu/cpu_workspace.h"

#include <algorithm>

#include "base/checked.h"
#include "device/workspace_carver.h"

namespace flexq {

int64_t score_stride(const ExecutorShape& shape) {
  return align_up(shape.context_tokens, 16);
}

Result<int64_t> carve_cpu_workspace(const ExecutorShape& shape, uint8_t* base,
                                    CpuWorkspace* buffers) {
  const int64_t chunk = shape.chunk_tokens;
  const int64_t q_width = int64_t{shape.n_heads} * shape.head_dim;
  const int64_t kv_width = int64_t{shape.n_kv_heads} * shape.head_dim;
  CpuWorkspace unused;
  CpuWorkspace& out = buffers != nullptr ? *buffers : unused;
  WorkspaceCarver carver(base, kDeviceAlignment);
  carver.take(out.x, chunk, shape.n_embd);
  carver.take(out.normed, chunk, shape.n_embd);
  carver.take(out.q, chunk, q_width);
  carver.take(out.k, chunk, kv_width);
  carver.take(out.v, chunk, kv_width);
  carver.take(out.attended, chunk, q_width);
  carver.take(out.projected, chunk, shape.n_embd);
  carver.take(out.gate, chunk, shape.n_ff);
  carver.take(out.up, chunk, shape.n_ff);
  carver.take(out.hidden, std::max<int64_t>(shape.n_outputs, chunk), shape.n_embd);
  carver.take(out.logits, shape.n_outputs, shape.n_vocab);
  carver.take(out.scores, shape.n_threads, score_stride(shape));
  if (shape.quantizes_activations) {
    const int64_t widest = std::max({int64_t{shape.n_embd}, q_width, int64_t{shape.n_ff}});
    const int64_t groups = ceil_div(widest, kGroupSize);
    carver.take(out.codes, chunk, groups * kGroupSize);
    carver.take(out.code_scales, chunk, groups);
    carver.take(out.code_sums, chunk, groups);
    if (shape.rounds_activations) carver.take(out.rounded, chunk, widest);
  }
  carver.take(out.pages, shape.n_sequences, shape.pages_per_sequence());
  if (!carver.used().valid()) {
    return Status::error(StatusCode::kLimitExceeded,
                         "workspace of %d tokens and %d output rows does not fit memory",
                         shape.chunk_tokens, shape.n_outputs);
  }
  return carver.used().value();
}

}  // namespace flexq
