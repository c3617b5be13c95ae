#include "checkpoint/config_json.h"

#include <algorithm>

#include "checkpoint/json_fields.h"
#include "checkpoint/printable.h"

namespace flexq {
namespace {

Result<JsonDocument> parse_object(std::string_view text, const std::string& path) {
  FLEXQ_ASSIGN_OR_RETURN(JsonDocument document, parse_json(text, path));
  if (!document.root().is_object()) {
    return Status::error(StatusCode::kCorrupt, "%s: expected a JSON object, found %s", path.c_str(),
                         document.root().type_name());
  }
  return document;
}

Status unsupported(const JsonFields& fields, const char* key, const std::string& found,
                   const char* expected) {
  return Status::error(StatusCode::kUnsupportedModel, "%s: %s \"%s\" is not supported, expected %s",
                       fields.where().c_str(), key, printable(found).c_str(), expected);
}

// model_type and architectures must not contradict each other; one of them is enough.
Status check_architecture(JsonFields& fields) {
  const std::string model_type = fields.string_or("model_type", "");
  FLEXQ_RETURN_IF_ERROR(fields.status());
  if (fields.has("model_type") && model_type != "llama")
    return unsupported(fields, "model_type", model_type, "\"llama\"");
  const Json* architectures = fields.find("architectures");
  if (architectures == nullptr) {
    if (fields.has("model_type")) return Status();
    return Status::error(StatusCode::kCorrupt, "%s: model_type is missing", fields.where().c_str());
  }
  if (!architectures->is_array() || architectures->size() != 1 ||
      !architectures->front().is_string()) {
    return Status::error(StatusCode::kCorrupt, "%s: architectures: expected a list of one string",
                         fields.where().c_str());
  }
  const auto architecture = architectures->front().get<std::string>();
  if (architecture != "LlamaForCausalLM")
    return unsupported(fields, "architectures", architecture, "\"LlamaForCausalLM\"");
  return Status();
}

Status refuse_quantized(const JsonFields& fields) {
  const Json* quantization = fields.find("quantization_config");
  if (quantization == nullptr) return Status();
  std::string method = "unknown";
  if (quantization->is_object()) {
    const auto it = quantization->find("quant_method");
    if (it != quantization->end() && it->is_string()) method = it->get<std::string>();
  }
  return Status::error(StatusCode::kUnsupportedModel,
                       "%s: quantization_config: the checkpoint is already quantized "
                       "(quant_method \"%s\"), expected F32, F16 or BF16 weights",
                       fields.where().c_str(), printable(method).c_str());
}

Result<RopeType> read_rope_type(JsonFields& rope) {
  const std::string type = rope.string_or("rope_type", "");
  const std::string old_spelling = rope.string_or("type", "");
  FLEXQ_RETURN_IF_ERROR(rope.status());
  if (rope.has("rope_type") && rope.has("type") && type != old_spelling) {
    return Status::error(StatusCode::kCorrupt, "%s: rope_type \"%s\" contradicts type \"%s\"",
                         rope.where().c_str(), printable(type).c_str(),
                         printable(old_spelling).c_str());
  }
  if (!rope.has("rope_type") && !rope.has("type")) {
    // Only theta is given: no scaling. A factor without a type has no meaning to guess.
    if (!rope.has("factor")) return RopeType::kDefault;
    return Status::error(StatusCode::kCorrupt, "%s: rope_type is missing", rope.where().c_str());
  }
  const std::string& name = rope.has("rope_type") ? type : old_spelling;
  if (name == "default") return RopeType::kDefault;
  if (name == "linear") return RopeType::kLinear;
  if (name == "llama3") return RopeType::kLlama3;
  return unsupported(rope, "rope_type", name, "default, linear or llama3");
}

// Rotating only a part of each head is another model.
Status check_partial_rotary(JsonFields& fields) {
  const double part = fields.number_or("partial_rotary_factor", 1.0);
  FLEXQ_RETURN_IF_ERROR(fields.status());
  if (part == 1.0) return Status();
  return Status::error(StatusCode::kUnsupportedModel,
                       "%s: partial_rotary_factor %g is not supported, expected 1",
                       fields.where().c_str(), part);
}

Status read_rope_object(JsonFields& rope, RopeConfig* out) {
  FLEXQ_RETURN_IF_ERROR(check_partial_rotary(rope));
  FLEXQ_ASSIGN_OR_RETURN(out->type, read_rope_type(rope));
  if (out->type != RopeType::kDefault) out->factor = rope.number("factor");
  if (out->type == RopeType::kLlama3) {
    out->low_freq_factor = rope.number("low_freq_factor");
    out->high_freq_factor = rope.number("high_freq_factor");
    out->original_context_tokens = rope.integer("original_max_position_embeddings");
  }
  out->theta = rope.number_or("rope_theta", out->theta);
  return rope.status();
}

Result<RopeConfig> read_rope(JsonFields& fields) {
  RopeConfig rope;
  rope.theta = fields.number_or("rope_theta", rope.theta);
  FLEXQ_RETURN_IF_ERROR(fields.status());
  FLEXQ_RETURN_IF_ERROR(check_partial_rotary(fields));
  const double outer_theta = rope.theta;

  const Json* parameters = fields.find("rope_parameters");
  const Json* scaling = fields.find("rope_scaling");
  if (parameters != nullptr && scaling != nullptr && *parameters != *scaling) {
    return Status::error(StatusCode::kCorrupt, "%s: rope_parameters and rope_scaling differ",
                         fields.where().c_str());
  }
  const char* key = parameters != nullptr ? "rope_parameters" : "rope_scaling";
  const Json* object = parameters != nullptr ? parameters : scaling;
  if (object == nullptr) return rope;
  if (!object->is_object()) {
    return Status::error(StatusCode::kCorrupt, "%s: %s: expected an object, found %s",
                         fields.where().c_str(), key, object->type_name());
  }
  JsonFields inner(*object, fields.where() + ": " + key);
  FLEXQ_RETURN_IF_ERROR(read_rope_object(inner, &rope));
  if (fields.has("rope_theta") && inner.has("rope_theta") && rope.theta != outer_theta) {
    return Status::error(StatusCode::kCorrupt, "%s: rope_theta %g contradicts %s.rope_theta %g",
                         fields.where().c_str(), outer_theta, key, rope.theta);
  }
  return rope;
}

// One id or a list of ids; appends those that `ids` does not have yet.
void read_eos_ids(JsonFields& fields, std::vector<int32_t>* ids) {
  const Json* value = fields.find("eos_token_id");
  if (value == nullptr) return;
  const auto append = [&](const Json& element) {
    const int32_t id = fields.as_integer("eos_token_id", element);
    if (std::find(ids->begin(), ids->end(), id) == ids->end()) ids->push_back(id);
  };
  if (!value->is_array()) return append(*value);
  for (const Json& element : *value) {
    append(element);
    // validate_config() refuses the list; searching it for duplicates must not become quadratic.
    if (!fields.ok() || ids->size() > kMaxEosTokens) return;
  }
}

}  // namespace

Result<ModelConfig> read_config_json(std::string_view text, const std::string& path) {
  FLEXQ_ASSIGN_OR_RETURN(const JsonDocument document, parse_object(text, path));
  JsonFields fields(document.root(), path);
  FLEXQ_RETURN_IF_ERROR(check_architecture(fields));
  FLEXQ_RETURN_IF_ERROR(refuse_quantized(fields));
  const std::string hidden_act = fields.string("hidden_act");
  FLEXQ_RETURN_IF_ERROR(fields.status());
  if (hidden_act != "silu") return unsupported(fields, "hidden_act", hidden_act, "\"silu\"");

  ModelConfig config;
  config.n_layers = fields.integer("num_hidden_layers");
  config.n_embd = fields.integer("hidden_size");
  config.n_heads = fields.integer("num_attention_heads");
  config.n_kv_heads = fields.integer_or("num_key_value_heads", config.n_heads);
  config.n_ff = fields.integer("intermediate_size");
  config.n_vocab = fields.integer("vocab_size");
  config.context_tokens = fields.integer("max_position_embeddings");
  config.rms_norm_eps = static_cast<float>(fields.number("rms_norm_eps"));
  config.tied_embeddings = fields.boolean_or("tie_word_embeddings", false);
  config.attention_bias = fields.boolean_or("attention_bias", false);
  config.mlp_bias = fields.boolean_or("mlp_bias", false);
  config.bos_token_id = fields.integer_or("bos_token_id", -1);
  read_eos_ids(fields, &config.eos_token_ids);
  config.head_dim = fields.integer_or("head_dim", 0);
  FLEXQ_RETURN_IF_ERROR(fields.status());

  if (!fields.has("head_dim") && config.n_heads > 0) {
    if (config.n_embd % config.n_heads != 0) {
      return Status::error(StatusCode::kCorrupt,
                           "%s: head_dim is missing and hidden_size %d is not a multiple of "
                           "num_attention_heads %d",
                           path.c_str(), config.n_embd, config.n_heads);
    }
    config.head_dim = config.n_embd / config.n_heads;
  }
  FLEXQ_ASSIGN_OR_RETURN(config.rope, read_rope(fields));
  FLEXQ_RETURN_IF_ERROR(validate_config(config, path));
  return config;
}

Status merge_generation_config(std::string_view text, const std::string& path,
                               ModelConfig* config) {
  FLEXQ_ASSIGN_OR_RETURN(const JsonDocument document, parse_object(text, path));
  JsonFields fields(document.root(), path);
  read_eos_ids(fields, &config->eos_token_ids);
  FLEXQ_RETURN_IF_ERROR(fields.status());
  return validate_config(*config, path);
}

}  // namespace flexq
