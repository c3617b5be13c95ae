// The LLaMA graph, written once for every device, precision and batch.
#pragma once

#include "base/status.h"
#include "base/thread_pool.h"
#include "device/device.h"
#include "model/llama_model.h"

namespace flexq {

// Asked before every layer; an error (kCancelled, kDeadlineExceeded) ends the pass with it.
using StopCheck = FunctionRef<Status()>;

// The residual stream of the executor's batch through one layer.
Status forward_layer(const DeviceLayer& layer, int32_t index, Executor& executor);

// Runs the tokens of `batch` through all layers: their keys and values are in the cache afterwards
// and the residual stream waits in the executor for final_norm() and logits().
Status forward(const LlamaModel& model, Executor& executor, const ForwardBatch& batch,
               StopCheck stop);

}  // namespace flexq
