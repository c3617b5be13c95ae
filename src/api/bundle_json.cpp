#include "api/bundle_json.h"

#include <charconv>
#include <span>
#include <vector>

#include "base/hexadecimal.h"
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
    case WeightFormat::kInt6Group:
      return "int6";
    case WeightFormat::kInt8Group:
      return "int8";
    case WeightFormat::kInt8Row:
      return "int8-row";
  }
  return "unknown";
}

// The shortest decimal that reads back as this float: 1e-05, not 9.999999747378752e-06.
double shortest_decimal(float value) {
  char text[32];
  const auto written = std::to_chars(text, text + sizeof text, value);
  double decimal = value;
  std::from_chars(text, written.ptr, decimal);
  return decimal;
}

// Everything is built in its place inside the document, and every container made by assignment: see
// JsonDocument.
Json& add_object(Json& list) {
  return list.emplace_back(Json::object());
}

void set_list(Json& place, std::initializer_list<int64_t> values) {
  place = Json::array();
  for (const int64_t value : values)
    place.push_back(value);
}

void set_shape(Json& place, const TensorSpec& spec) {
  if (spec.is_vector()) {
    set_list(place, {spec.cols});
  } else {
    set_list(place, {spec.rows, spec.cols});
  }
}

void set_signature(Json& out, const Ed25519PublicKey* signer) {
  out = nullptr;
  if (signer == nullptr) return;
  out = Json::object();
  out["algorithm"] = "ed25519";
  out["key_id"] = hexadecimal(*signer);
}

void set_architecture(Json& out, const ModelConfig& config) {
  out = Json::object();
  out["type"] = "llama";
  out["n_layers"] = config.n_layers;
  out["n_embd"] = config.n_embd;
  out["n_heads"] = config.n_heads;
  out["n_kv_heads"] = config.n_kv_heads;
  out["head_dim"] = config.head_dim;
  out["n_ff"] = config.n_ff;
  out["n_vocab"] = config.n_vocab;
  out["context_tokens"] = config.context_tokens;
  out["rms_norm_eps"] = shortest_decimal(config.rms_norm_eps);
  Json& rope = out["rope"] = Json::object();
  rope["type"] = rope_name(config.rope.type);
  rope["theta"] = config.rope.theta;
  if (config.rope.type != RopeType::kDefault) rope["factor"] = config.rope.factor;
  if (config.rope.type == RopeType::kLlama3) {
    rope["low_freq_factor"] = config.rope.low_freq_factor;
    rope["high_freq_factor"] = config.rope.high_freq_factor;
    rope["original_context_tokens"] = config.rope.original_context_tokens;
  }
  out["tied_embeddings"] = config.tied_embeddings;
  out["attention_bias"] = config.attention_bias;
  out["mlp_bias"] = config.mlp_bias;
  out["bos_token_id"] = config.bos_token_id;
  Json& ends = out["eos_token_ids"] = Json::array();
  for (const int32_t id : config.eos_token_ids)
    ends.push_back(id);
}

void set_layers(Json& out, const Bundle& bundle) {
  out = Json::array();
  for (size_t i = 0; i < bundle.tensors().size(); ++i) {
    const StoredTensor& tensor = bundle.tensors()[i];
    if (tensor.spec.role != TensorRole::kLinear) continue;
    Json& layer = add_object(out);
    layer["name"] = tensor.spec.name;
    layer["weight_bits"] = weight_bits(tensor.format);
    layer["activation_bits"] = tensor.activation_bits;
    set_shape(layer["shape"], tensor.spec);
    layer["stored_bytes"] = bundle.stored_bytes(static_cast<int64_t>(i));
  }
}

void set_tensors(Json& out, const Bundle& bundle) {
  out = Json::array();
  for (size_t i = 0; i < bundle.tensors().size(); ++i) {
    const StoredTensor& tensor = bundle.tensors()[i];
    if (tensor.spec.role == TensorRole::kLinear) continue;
    Json& entry = add_object(out);
    entry["name"] = tensor.spec.name;
    entry["format"] = format_name(tensor.format);
    set_shape(entry["shape"], tensor.spec);
    entry["stored_bytes"] = bundle.stored_bytes(static_cast<int64_t>(i));
  }
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

Status set_tokenizer(Json& out, Bundle& bundle) {
  out = nullptr;
  if (!bundle.has_section(kTokenizerSection)) return Status();
  FLEXQ_ASSIGN_OR_RETURN(const HostBuffer bytes, bundle.read_section(kTokenizerSection));
  Result<TokenizerData> parsed = parse_tokenizer(bytes.span());
  if (!parsed.ok()) return std::move(parsed).status().with_context(bundle.source_name());
  const TokenizerData& data = *parsed;
  out = Json::object();
  out["type"] = tokenizer_type(data.kind);
  out["n_vocab"] = data.n_vocab();
  out["bos_id"] = data.bos_id;
  out["eos_id"] = data.eos_id;
  out["unk_id"] = data.unk_id;
  out["add_bos"] = data.add_bos;
  out["byte_fallback"] = data.byte_fallback;
  return Status();
}

void set_measured(Json& out, const std::vector<MeasuredPrecision>& list) {
  out = Json::array();
  for (const MeasuredPrecision& measured : list) {
    Json& entry = add_object(out);
    if (!measured.name.empty()) entry["policy"] = measured.name;
    entry["a8_share"] = measured.a8_share;
    entry["perplexity"] = measured.perplexity;
    entry["kl_divergence"] = measured.kl_divergence;
    entry["expected_rise"] = measured.expected_rise;
  }
}

void set_calibration(Json& out, const BundleCalibration& calibration) {
  out = Json::object();
  out["text_sha256"] = hexadecimal(calibration.text_sha256);
  out["window_tokens"] = calibration.window_tokens;
  out["n_windows"] = calibration.n_windows;
  if (!calibration.goal.empty()) {
    out["goal"] = calibration.goal;
    out["goal_value"] = calibration.goal_value;
    out["goal_met"] = calibration.goal_met;
  }
  set_measured(out["policies"], calibration.policies);
  set_measured(out["front"], calibration.front);
}

void set_provenance(Json& out, const BundleProvenance& provenance) {
  out = Json::object();
  out["tool_version"] = provenance.tool_version;
  out["source"] = provenance.source;
  if (!provenance.source_config_json.empty()) {
    // A record, which loading does not read: shown as it is where it is not JSON.
    Result<JsonDocument> config = parse_json(provenance.source_config_json, "source config.json");
    if (config.ok()) {
      out["source_config"].swap(config->root());
    } else {
      out["source_config"] = provenance.source_config_json;
    }
  }
  Json& list = out["evidence"] = Json::array();
  for (const BundleEvidence& evidence : provenance.evidence) {
    Json& entry = add_object(list);
    entry["tensor"] = evidence.tensor;
    entry["metric"] = evidence.metric;
    entry["value"] = evidence.value;
    if (evidence.values.empty()) continue;
    Json& values = entry["values"] = Json::array();
    for (const float value : evidence.values)
      values.push_back(shortest_decimal(value));
  }
  if (provenance.calibration) set_calibration(out["calibration"], *provenance.calibration);
  if (provenance.key_values.empty()) return;
  Json& more = out["more"] = Json::object();
  for (const auto& [key, value] : provenance.key_values)
    more[key] = value;
}

}  // namespace

Result<std::string> bundle_json(Bundle& bundle) {
  JsonDocument document;
  Json& json = document.root() = Json::object();
  json["format_version"] = bundle.header().format_version;
  set_signature(json["signature"], bundle.signer());
  set_architecture(json["architecture"], bundle.config());
  Json& quantization = json["quantization"] = Json::object();
  quantization["policy"] = bundle.policy();
  quantization["group_size"] = bundle.group_size();
  set_layers(quantization["layers"], bundle);
  set_tensors(json["tensors"], bundle);
  json["size_bytes"] = bundle.file_bytes();
  json["bits_per_weight"] = bundle.linear_bits_per_weight();
  FLEXQ_RETURN_IF_ERROR(set_tokenizer(json["tokenizer"], bundle));
  if (bundle.chat_template() != nullptr) json["chat_template"] = *bundle.chat_template();
  set_provenance(json["provenance"], bundle.provenance());
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace flexq::api
