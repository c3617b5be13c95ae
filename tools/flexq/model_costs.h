// What a model costs to run, from its shapes: operations and bytes, to compare with what a device
// can do.
#pragma once

#include <flexq.h>

#include <cstdint>

namespace flexq_tool {

// Two operations per product: a multiplication and an addition.
struct Operations {
  double int8 = 0;  // of linear layers whose input is quantized
  double fp16 = 0;  // everything else that tensor cores do
  double total() const { return int8 + fp16; }
};

class ModelCosts {
 public:
  explicit ModelCosts(const flexq_model& model, const flexq_model_info& info);

  // `batch` sequences of n_tokens each from their beginning, the logits of the last token: linear
  // layers, lm_head, and attention over the positions before each token.
  Operations prefill(int32_t batch, int32_t n_tokens) const;
  // Read by one step of `batch` sequences that have n_positions each: the weights once, and the
  // keys and values of every sequence.
  double decode_bytes(int32_t batch, double n_positions, int64_t kv_bytes_per_token) const;

 private:
  const flexq_model_info& info_;
  Operations per_token_;  // of the linear layers
};

}  // namespace flexq_tool
