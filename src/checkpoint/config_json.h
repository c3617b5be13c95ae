// config.json of a Hugging Face LLaMA checkpoint, read strictly: what FlexQ does not implement is
// refused by name rather than ignored.
//
// Both spellings of the rotary embedding are read: `rope_theta` with `rope_scaling` (transformers
// up to 4) and the `rope_parameters` object (from 5), each with `type` or `rope_type`. JSON null
// means absent. Defaults: num_key_value_heads = num_attention_heads, head_dim = hidden_size /
// num_attention_heads, rope_theta = 10000, tie_word_embeddings and biases false, no bos or eos;
// every other field of the architecture must be there.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "model/model_config.h"

namespace flexq {

// `path` names the file in messages. The result has passed validate_config(). Errors: kCorrupt
// (malformed, missing keys, wrong types, inconsistent), kLimitExceeded, kUnsupportedModel (another
// model_type, hidden_act, rope type; a checkpoint that is already quantized).
Result<ModelConfig> read_config_json(std::string_view text, const std::string& path);

// Adds the end-of-sequence ids of generation_config.json that config.json does not have, as
// Hugging Face's generate() stops at them.
Status merge_generation_config(std::string_view text, const std::string& path, ModelConfig* config);

}  // namespace flexq
