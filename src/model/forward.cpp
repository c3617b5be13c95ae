#include "model/forward.h"

namespace flexq {

Status forward_layer(const DeviceLayer& layer, int32_t index, Executor& executor) {
  FLEXQ_RETURN_IF_ERROR(executor.attention_in(layer, index));  // norm, q k v, RoPE, KV cache
  FLEXQ_RETURN_IF_ERROR(executor.attention(index));            // softmax(q k^T) v
  FLEXQ_RETURN_IF_ERROR(executor.attention_out(layer));        // x += o_proj
  FLEXQ_RETURN_IF_ERROR(executor.ffn_in(layer));               // norm, silu(gate) * up
  return executor.ffn_out(layer);                              // x += down_proj
}

Status forward(const LlamaModel& model, Executor& executor, const ForwardBatch& batch,
               StopCheck stop) {
  FLEXQ_RETURN_IF_ERROR(executor.begin(batch));
  FLEXQ_RETURN_IF_ERROR(executor.embed(model.embedding()));
  int32_t index = 0;
  for (const DeviceLayer& layer : model.layers()) {
    FLEXQ_RETURN_IF_ERROR(stop());
    FLEXQ_RETURN_IF_ERROR(forward_layer(layer, index, executor));
    ++index;
  }
  return Status();
}

}  // namespace flexq
