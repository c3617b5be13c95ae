#include "api/bundle_json.h"

#include "base/json.h"
#include "text/tokenizer_segment.h"

namespace flexq::api {
namespace {

const char* rope_name(RopeType type) {
  return type == RopeType::kLinear ? "linear" : type == RopeType::kLlama3 ? "llama3" : "default";
}

const char* format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return "f32";
    case WeightFormat::kF16:
      return "f16";
    case WeightFormat::kBF16:
      return "bf16";
    default:
      return "int6";
  }
}

int32_t weight_bits(WeightFormat format) {
  return format == WeightFormat::kInt6Group ? 6 : static_cast<int32_t>(8 * element_bytes(format));
}

Json architecture_json(const ModelConfig& config) {
  Json rope = {{"type", rope_name(config.rope.type)}, {"theta", config.rope.theta}};
  if (config.rope.type != RopeType::kDefault) rope["factor"] = config.rope.factor;
  if (config.rope.type == RopeType::kLlama3) {
    rope["low_freq_factor"] = config.rope.low_freq_factor;
    rope["high_freq_factor"] = config.rope.high_freq_factor;
    rope["original_context_tokens"] = config.rope.original_context_tokens;
  }
  return {{"type", "llama"},
          {"n_layers", config.n_layers},
          {"n_embd", config.n_embd},
          {"n_heads", config.n_heads},
          {"n_kv_heads", config.n_kv_heads},
          {"head_dim", config.head_dim},
          {"n_ff", config.n_ff},
          {"n_vocab", config.n_vocab},
          {"context_tokens", config.context_tokens},
          {"rms_norm_eps", config.rms_norm_eps},
          {"rope", std::move(rope)},
          {"tied_embeddings", config.tied_embeddings},
          {"attention_bias", config.attention_bias},
          {"mlp_bias", config.mlp_bias},
          {"bos_token_id", config.bos_token_id},
          {"eos_token_ids", config.eos_token_ids}};
}

Json layers_json(const Bundle& bundle) {
  Json layers = Json::array();
  for (size_t i = 0; i < bundle.tensors().size(); ++i) {
    const StoredTensor& tensor = bundle.tensors()[i];
    if (tensor.spec.role != TensorRole::kLinear) continue;
    layers.push_back({{"name", tensor.spec.name},
                      {"weight_bits", weight_bits(tensor.format)},
                      {"activation_bits", tensor.activation_bits},
                      {"shape", {tensor.spec.rows, tensor.spec.cols}},
                      {"stored_bytes", bundle.stored_bytes(static_cast<int64_t>(i))}});
  }
  return layers;
}

Json tensors_json(const Bundle& bundle) {
  Json tensors = Json::array();
  for (size_t i = 0; i < bundle.tensors().size(); ++i) {
    const StoredTensor& tensor = bundle.tensors()[i];
    if (tensor.spec.role == TensorRole::kLinear) continue;
    Json shape =
        tensor.spec.is_vector() ? Json{tensor.spec.cols} : Json{tensor.spec.rows, tensor.spec.cols};
    tensors.push_back({{"name", tensor.spec.name},
                       {"format", format_name(tensor.format)},
                       {"shape", std::move(shape)},
                       {"stored_bytes", bundle.stored_bytes(static_cast<int64_t>(i))}});
  }
  return tensors;
}

const char* tokenizer_type(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::kByteLevelBpe:
      return "byte-level-bpe";
    case TokenizerKind::kCharacterBpe:
      return "character-bpe";
    case TokenizerKind::kSentencePieceBpe:
      break;
  }
  return "sentencepiece-bpe";
}

Result<Json> tokenizer_json(Bundle& bundle) {
  if (!bundle.has_section(kTokenizerSection)) return Json(nullptr);
  FLEXQ_ASSIGN_OR_RETURN(const HostBuffer bytes, bundle.read_section(kTokenizerSection));
  Result<TokenizerData> parsed = parse_tokenizer(bytes.span());
  if (!parsed.ok()) return std::move(parsed).status().with_context(bundle.source_name());
  const TokenizerData& data = *parsed;
  return Json{{"type", tokenizer_type(data.kind)},
              {"n_vocab", data.n_vocab()},
              {"bos_id", data.bos_id},
              {"eos_id", data.eos_id},
              {"unk_id", data.unk_id},
              {"add_bos", data.add_bos},
              {"byte_fallback", data.byte_fallback}};
}

Result<Json> provenance_json(const BundleProvenance& provenance) {
  Json json = {{"tool_version", provenance.tool_version}, {"source", provenance.source}};
  if (!provenance.source_config_json.empty()) {
    FLEXQ_ASSIGN_OR_RETURN(json["source_config"],
                           parse_json(provenance.source_config_json, "source config.json"));
  }
  json["evidence"] = Json::array();
  for (const BundleEvidence& evidence : provenance.evidence) {
    json["evidence"].push_back(
        {{"tensor", evidence.tensor}, {"metric", evidence.metric}, {"value", evidence.value}});
  }
  for (const auto& [key, value] : provenance.key_values)
    json["more"][key] = value;
  return json;
}

}  // namespace

Result<std::string> bundle_json(Bundle& bundle) {
  Json json;
  json["format_version"] = bundle.header().format_version;
  json["architecture"] = architecture_json(bundle.config());
  json["quantization"] = {{"policy", bundle.policy()},
                          {"group_size", bundle.group_size()},
                          {"layers", layers_json(bundle)}};
  json["tensors"] = tensors_json(bundle);
  json["size_bytes"] = bundle.file_bytes();
  json["bits_per_weight"] = bundle.quantized_bits_per_weight();
  FLEXQ_ASSIGN_OR_RETURN(json["tokenizer"], tokenizer_json(bundle));
  if (bundle.chat_template() != nullptr) json["chat_template"] = *bundle.chat_template();
  FLEXQ_ASSIGN_OR_RETURN(json["provenance"], provenance_json(bundle.provenance()));
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace flexq::api
