#include "support/synthetic_checkpoint.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "base/half.h"
#include "support/synthetic_byte_level.h"
#include "support/synthetic_tokenizer.h"

namespace flexq::test {
namespace {

using OrderedJson = nlohmann::ordered_json;

// splitmix64: a counter-based generator whose output is a function of its input only.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t hash_name(const std::string& name) {
  uint64_t hash = 0;
  for (const char c : name)
    hash = mix(hash ^ static_cast<uint8_t>(c));
  return hash;
}

// Sum of four uniform 16-bit numbers, centred and scaled to variance 1: close to normal, bounded by
// 3.5, and exact on every machine because only the last step rounds.
float near_normal(uint64_t bits) {
  int64_t sum = 0;
  for (int shift = 0; shift < 64; shift += 16)
    sum += static_cast<int64_t>(bits >> shift & 0xffffu);
  // Variance of one: (2^32 - 1) / 12, about (65536^2) / 12; of four: 65536^2 / 3.
  constexpr double kDeviation = 65536.0 * 0.57735026918962576;
  return static_cast<float>((static_cast<double>(sum) - 2.0 * 65535.0) / kDeviation);
}

uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);  // ties to even
}

void append_little_endian(std::string& out, uint64_t bits, int64_t n_bytes) {
  for (int64_t i = 0; i < n_bytes; ++i)
    out += static_cast<char>(bits >> (8 * i) & 0xffu);
}

uint64_t element_bits(float value, WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return std::bit_cast<uint32_t>(value);
    case WeightFormat::kF16:
      return float_to_half(value);
    case WeightFormat::kBF16:
      return float_to_bf16(value);
    default:
      break;
  }
  throw std::runtime_error("a checkpoint's format is F32, F16 or BF16");
}

const char* dtype_name(WeightFormat format) {
  return format == WeightFormat::kF32 ? "F32" : format == WeightFormat::kF16 ? "F16" : "BF16";
}

int64_t n_elements(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (const int64_t dimension : shape)
    n *= dimension;
  return n;
}

struct FileTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

OrderedJson rope_object(const RopeConfig& rope) {
  OrderedJson json;
  switch (rope.type) {
    case RopeType::kDefault:
      json["rope_type"] = "default";
      break;
    case RopeType::kLinear:
      json["rope_type"] = "linear";
      json["factor"] = rope.factor;
      break;
    case RopeType::kLlama3:
      json["rope_type"] = "llama3";
      json["factor"] = rope.factor;
      json["low_freq_factor"] = rope.low_freq_factor;
      json["high_freq_factor"] = rope.high_freq_factor;
      json["original_max_position_embeddings"] = rope.original_context_tokens;
      break;
  }
  return json;
}

std::string config_text(const SyntheticOptions& options) {
  const ModelConfig& config = options.config;
  OrderedJson json;
  json["architectures"] = {"LlamaForCausalLM"};
  json["model_type"] = "llama";
  json["hidden_act"] = "silu";
  json["hidden_size"] = config.n_embd;
  json["intermediate_size"] = config.n_ff;
  json["num_hidden_layers"] = config.n_layers;
  json["num_attention_heads"] = config.n_heads;
  json["num_key_value_heads"] = config.n_kv_heads;
  json["head_dim"] = config.head_dim;
  json["vocab_size"] = config.n_vocab;
  json["max_position_embeddings"] = config.context_tokens;
  json["rms_norm_eps"] = static_cast<double>(config.rms_norm_eps);
  json["tie_word_embeddings"] = config.tied_embeddings;
  json["attention_bias"] = config.attention_bias;
  json["mlp_bias"] = config.mlp_bias;
  if (config.bos_token_id >= 0) json["bos_token_id"] = config.bos_token_id;
  if (config.eos_token_ids.size() == 1) json["eos_token_id"] = config.eos_token_ids[0];
  if (config.eos_token_ids.size() > 1) json["eos_token_id"] = config.eos_token_ids;
  if (options.rope_dialect == RopeDialect::kNew) {
    json["rope_parameters"] = rope_object(config.rope);
    json["rope_parameters"]["rope_theta"] = config.rope.theta;
  } else {
    json["rope_theta"] = config.rope.theta;
    json["rope_scaling"] = nullptr;
    if (config.rope.type != RopeType::kDefault) json["rope_scaling"] = rope_object(config.rope);
  }
  if (!options.config_patch.empty()) json.merge_patch(OrderedJson::parse(options.config_patch));
  return json.dump(2);
}

FileTensor model_tensor(const TensorSpec& spec, const SyntheticOptions& options) {
  const auto given = options.values.find(spec.name);
  std::vector<float> values =
      given != options.values.end() ? given->second : synthetic_tensor(spec, options.seed);
  for (const PlantedValue& planted : options.planted) {
    if (planted.tensor == spec.name)
      values.at(static_cast<size_t>(planted.row * spec.cols + planted.col)) = planted.value;
  }
  FileTensor tensor{spec.name, dtype_name(options.format), {spec.rows, spec.cols}, ""};
  if (spec.is_vector()) tensor.shape = {spec.cols};
  if (const auto it = options.reshaped.find(spec.name); it != options.reshaped.end()) {
    tensor.shape = it->second;
    values.resize(static_cast<size_t>(n_elements(tensor.shape)));
  }
  if (const auto it = options.renamed.find(spec.name); it != options.renamed.end())
    tensor.name = it->second;
  const int64_t element = element_bytes(options.format);
  tensor.bytes.reserve(values.size() * static_cast<size_t>(element));
  for (const float value : values)
    append_little_endian(tensor.bytes, element_bits(value, options.format), element);
  return tensor;
}

FileTensor extra_tensor(const ExtraTensor& extra) {
  static const std::map<std::string, int64_t> kBytes = {
      {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8}, {"I8", 1}};
  const int64_t bytes = n_elements(extra.shape) * kBytes.at(extra.dtype);
  return {extra.name, extra.dtype, extra.shape, std::string(static_cast<size_t>(bytes), '\0')};
}

// Like the format's own writer: entries and data in the order of the names.
std::string shard_bytes(std::vector<FileTensor> tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  OrderedJson header;
  header["__metadata__"] = {{"format", "pt"}};
  std::string data;
  for (const FileTensor& tensor : tensors) {
    OrderedJson entry;
    entry["dtype"] = tensor.dtype;
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {data.size(), data.size() + tensor.bytes.size()};
    header[tensor.name] = entry;
    data += tensor.bytes;
  }
  return safetensors_bytes(header.dump(), data);
}

void check_names(const SyntheticOptions& options, const std::vector<TensorSpec>& specs) {
  const auto check = [&](const std::string& name) {
    for (const TensorSpec& spec : specs)
      if (spec.name == name) return;
    throw std::runtime_error("the model has no tensor " + name);
  };
  for (const std::string& name : options.dropped)
    check(name);
  for (const auto& item : options.renamed)
    check(item.first);
  for (const auto& item : options.reshaped)
    check(item.first);
  for (const auto& item : options.values)
    check(item.first);
  for (const PlantedValue& planted : options.planted)
    check(planted.tensor);
}

}  // namespace

ModelConfig small_model_config() {
  ModelConfig config;
  config.n_layers = 2;
  config.n_embd = 64;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 16;
  config.n_ff = 160;
  config.n_vocab = 320;
  config.context_tokens = 128;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  return config;
}

std::vector<float> synthetic_tensor(const TensorSpec& spec, uint64_t seed) {
  float mean = 0.0f;
  float deviation = 1.0f / std::sqrt(static_cast<float>(spec.cols));
  if (spec.role == TensorRole::kBias) deviation = 0.02f;
  if (spec.role == TensorRole::kNorm) {
    mean = 1.0f;
    deviation = 0.1f;
  }
  const uint64_t stream = mix(seed) ^ hash_name(spec.name);
  std::vector<float> values(static_cast<size_t>(spec.rows * spec.cols));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = mean + deviation * near_normal(mix(stream + i));
  return values;
}

std::string safetensors_bytes(const std::string& header, const std::string& data) {
  std::string padded = header;
  padded.resize((header.size() + 7) / 8 * 8, ' ');
  std::string file;
  append_little_endian(file, padded.size(), 8);
  return file + padded + data;
}

SyntheticFiles make_synthetic_checkpoint(const SyntheticOptions& options) {
  const std::vector<TensorSpec> specs = expected_tensors(options.config);
  check_names(options, specs);
  const auto n_shards = static_cast<size_t>(options.n_shards);
  if (n_shards < 1 || n_shards > specs.size()) throw std::runtime_error("n_shards out of range");

  std::vector<std::vector<FileTensor>> shards(n_shards);
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto& dropped = options.dropped;
    if (std::find(dropped.begin(), dropped.end(), specs[i].name) != dropped.end()) continue;
    shards[i * n_shards / specs.size()].push_back(model_tensor(specs[i], options));
  }
  for (const ExtraTensor& extra : options.extra)
    shards.back().push_back(extra_tensor(extra));

  SyntheticFiles files;
  files["config.json"] = config_text(options);
  if (!options.generation_config.empty())
    files["generation_config.json"] = options.generation_config;
  if (options.with_tokenizer)
    files["tokenizer.model"] = options.byte_level_tokenizer
                                   ? synthetic_tiktoken_model(options.config.n_vocab)
                                   : synthetic_tokenizer_model(options.config.n_vocab);
  if (n_shards == 1) {
    files["model.safetensors"] = shard_bytes(std::move(shards[0]));
    return files;
  }
  OrderedJson index;
  size_t total_bytes = 0;
  for (size_t i = 0; i < n_shards; ++i) {
    char name[64];
    snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, n_shards);
    for (const FileTensor& tensor : shards[i]) {
      index["weight_map"][tensor.name] = name;
      total_bytes += tensor.bytes.size();
    }
    files[name] = shard_bytes(std::move(shards[i]));
  }
  index["metadata"]["total_size"] = total_bytes;
  files["model.safetensors.index.json"] = index.dump(2);
  return files;
}

void write_files(const std::string& directory, const SyntheticFiles& files) {
  for (const auto& [name, content] : files) {
    std::ofstream file(directory + "/" + name, std::ios::binary | std::ios::trunc);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    file.close();
    if (!file) throw std::runtime_error("cannot write " + directory + "/" + name);
  }
}

void write_synthetic_checkpoint(const std::string& directory, const SyntheticOptions& options) {
  write_files(directory, make_synthetic_checkpoint(options));
}

}  // namespace flexq::test
