#include "model/reference_forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace flexq::test {
namespace {

constexpr double kPi = 3.14159265358979323846;

double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  if (exponent == 31) throw std::runtime_error("infinity in a reference checkpoint");
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

double float_value(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

Vector decode(const std::string& dtype, const char* bytes, size_t n_bytes) {
  const size_t element = dtype == "F32" ? 4 : 2;
  Vector values;
  for (size_t at = 0; at < n_bytes; at += element) {
    uint32_t bits = 0;
    std::memcpy(&bits, bytes + at, element);
    values.push_back(dtype == "F32"   ? float_value(bits)
                     : dtype == "F16" ? half_value(static_cast<uint16_t>(bits))
                                      : float_value(bits << 16));
  }
  return values;
}

double dot(const double* a, const double* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i)
    sum += a[i] * b[i];
  return sum;
}

void add(Vector& x, const Vector& y) {
  for (size_t i = 0; i < x.size(); ++i)
    x[i] += y[i];
}

}  // namespace

Vector reference_frequencies(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  Vector frequencies;
  for (int i = 0; i < config.head_dim / 2; ++i) {
    double frequency = std::pow(rope.theta, -2.0 * i / config.head_dim);
    if (rope.type == RopeType::kLinear) frequency /= rope.factor;
    if (rope.type == RopeType::kLlama3) {
      const double turns = rope.original_context_tokens * frequency / (2 * kPi);
      // 0: below low_freq_factor turns over the trained context, interpolate; 1: above high, keep.
      const double smooth = std::clamp(
          (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0,
          1.0);
      frequency *= (1 - smooth) / rope.factor + smooth;
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

ReferenceModel::ReferenceModel(const SyntheticFiles& files, const ModelConfig& config)
    : config_(config), inverse_frequencies_(reference_frequencies(config)) {
  const std::string& file = files.at("model.safetensors");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  const nlohmann::json header =
      nlohmann::json::parse(file.substr(sizeof header_bytes, header_bytes));
  const char* data = file.data() + sizeof header_bytes + header_bytes;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const auto begin = entry["data_offsets"][0].get<size_t>();
    const auto end = entry["data_offsets"][1].get<size_t>();
    tensors_[name] = decode(entry["dtype"].get<std::string>(), data + begin, end - begin);
  }
}

// x / sqrt(mean(x^2) + eps) * weight
Vector ReferenceModel::norm(const std::string& name, const Vector& x) const {
  const Vector& weight = tensors_.at(name + ".weight");
  const double mean_square = dot(x.data(), x.data(), x.size()) / static_cast<double>(x.size());
  Vector y;
  for (size_t i = 0; i < x.size(); ++i)
    y.push_back(x[i] / std::sqrt(mean_square + static_cast<double>(config_.rms_norm_eps)) *
                weight[i]);
  return y;
}

// W x + b
Vector ReferenceModel::linear(const std::string& name, const Vector& x) const {
  const Vector& weight = tensors_.at(name + ".weight");
  Vector y(weight.size() / x.size());
  for (size_t row = 0; row < y.size(); ++row)
    y[row] = dot(&weight[row * x.size()], x.data(), x.size());
  if (const auto bias = tensors_.find(name + ".bias"); bias != tensors_.end()) add(y, bias->second);
  return y;
}

// rotate_half: element i of a head is paired with element i + head_dim / 2.
void ReferenceModel::rotate(Vector& heads, int position) const {
  const size_t half = inverse_frequencies_.size();
  for (size_t begin = 0; begin < heads.size(); begin += 2 * half) {
    for (size_t i = 0; i < half; ++i) {
      const double angle = position * inverse_frequencies_[i];
      const double a = heads[begin + i];
      const double b = heads[begin + i + half];
      heads[begin + i] = a * std::cos(angle) - b * std::sin(angle);
      heads[begin + i + half] = b * std::cos(angle) + a * std::sin(angle);
    }
  }
}

// Each query head attends to all positions of the KV head that its group shares.
Vector ReferenceModel::attend(const Vector& queries, const Cache& cache) const {
  const auto head_dim = static_cast<size_t>(config_.head_dim);
  const auto group = static_cast<size_t>(config_.n_heads / config_.n_kv_heads);
  Vector out(queries.size());
  for (size_t head = 0; head < static_cast<size_t>(config_.n_heads); ++head) {
    const size_t kv = head / group * head_dim;
    Vector weights;
    for (const Vector& key : cache.keys)
      weights.push_back(std::exp(dot(&queries[head * head_dim], &key[kv], head_dim) /
                                 std::sqrt(static_cast<double>(head_dim))));
    double sum = 0;
    for (const double weight : weights)
      sum += weight;
    for (size_t p = 0; p < weights.size(); ++p)
      for (size_t d = 0; d < head_dim; ++d)
        out[head * head_dim + d] += weights[p] / sum * cache.values[p][kv + d];
  }
  return out;
}

std::vector<ReferenceModel::Row> ReferenceModel::forward(std::span<const int32_t> tokens) const {
  const auto n_embd = static_cast<ptrdiff_t>(config_.n_embd);
  const Vector& embedding = tensors_.at("model.embed_tokens.weight");
  std::vector<Cache> caches(static_cast<size_t>(config_.n_layers));
  std::vector<Row> rows;
  for (size_t position = 0; position < tokens.size(); ++position) {
    const auto first = embedding.begin() + tokens[position] * n_embd;
    Vector x(first, first + n_embd);
    for (size_t i = 0; i < caches.size(); ++i) {
      const std::string layer = "model.layers." + std::to_string(i) + ".";
      Vector y = norm(layer + "input_layernorm", x);
      Vector query = linear(layer + "self_attn.q_proj", y);
      Vector key = linear(layer + "self_attn.k_proj", y);
      rotate(query, static_cast<int>(position));
      rotate(key, static_cast<int>(position));
      caches[i].keys.push_back(key);
      caches[i].values.push_back(linear(layer + "self_attn.v_proj", y));
      add(x, linear(layer + "self_attn.o_proj", attend(query, caches[i])));

      y = norm(layer + "post_attention_layernorm", x);
      Vector gate = linear(layer + "mlp.gate_proj", y);
      const Vector up = linear(layer + "mlp.up_proj", y);
      for (size_t j = 0; j < gate.size(); ++j)
        gate[j] = gate[j] / (1 + std::exp(-gate[j])) * up[j];
      add(x, linear(layer + "mlp.down_proj", gate));
    }
    Row row;
    row.hidden = norm("model.norm", x);
    row.logits = linear(config_.tied_embeddings ? "model.embed_tokens" : "lm_head", row.hidden);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace flexq::test
