#include "model_costs.h"

#include <string_view>

namespace flexq_tool {

ModelCosts::ModelCosts(const flexq_model& model, const flexq_model_info& info) : info_(info) {
  for (int32_t i = 0; i < flexq_model_tensor_count(&model); ++i) {
    flexq_tensor_info tensor = {};
    tensor.struct_size = sizeof tensor;
    if (flexq_model_get_tensor_info(&model, i, &tensor) != FLEXQ_OK) continue;
    const std::string_view name = tensor.name;
    const bool is_linear = name.find("_proj.weight") != std::string_view::npos;
    if (!is_linear) continue;
    const double operations = 2.0 * static_cast<double>(tensor.rows * tensor.cols);
    (tensor.activation_bits < 16 ? per_token_.int8 : per_token_.fp16) += operations;
  }
}

Operations ModelCosts::prefill(int32_t batch, int32_t n_tokens) const {
  const double n = n_tokens;
  const double lm_head = 2.0 * info_.n_vocab * info_.n_embd;
  // A query against the key, and a probability times the value, of every position up to its own.
  const double pairs = n * (n + 1) / 2;
  const double attention = 2 * 2.0 * info_.n_layers * info_.n_heads * info_.head_dim * pairs;
  Operations operations;
  operations.int8 = batch * n * per_token_.int8;
  operations.fp16 = batch * (n * per_token_.fp16 + lm_head + attention);
  return operations;
}

double ModelCosts::decode_bytes(int32_t batch, double n_positions,
                                int64_t kv_bytes_per_token) const {
  return static_cast<double>(info_.decode_weight_bytes) +
         batch * n_positions * static_cast<double>(kv_bytes_per_token);
}

}  // namespace flexq_tool
