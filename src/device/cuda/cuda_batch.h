// What the kernels know of the tokens of a pass, laid out in one block that goes to the device in
// one copy.
#pragma once

#include "base/status.h"
#include "device/device.h"
#include "kernels/cuda/cuda_kernels.h"

namespace flexq {

// Bytes of the largest batch of a shape, saturated: a caller's checked sums then overflow.
int64_t cuda_batch_bytes(const ExecutorShape& shape);

struct StagedBatch {
  CudaBatch batch;                        // pointers into the device block
  const int32_t* tokens = nullptr;        // (n_tokens), there too
  const int32_t* block_tables = nullptr;  // (n_runs, pages_per_sequence), there too
  int64_t n_bytes = 0;                    // of the block
};

// Writes a batch into `host` and points into `device`, blocks of cuda_batch_bytes() each. Sequences
// are renumbered by their order of appearance, so that only the block tables of this batch travel.
Result<StagedBatch> stage_cuda_batch(const ExecutorShape& shape, const ForwardBatch& batch,
                                     uint8_t* host, const uint8_t* device);

}  // namespace flexq
