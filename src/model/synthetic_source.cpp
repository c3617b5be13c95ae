#include "model/synthetic_source.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>

#include "base/checked.h"
#include "base/half.h"

namespace flexq {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014) as a counter-based generator: 8 random bytes per counter.
constexpr uint64_t random_bytes(uint64_t seed, uint64_t counter) {
  uint64_t z = seed + (counter + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Standard normal quantiles at (i + 0.5) / 256, by bisection: one random byte picks a deviate.
std::array<float, 256> normal_quantiles() {
  std::array<float, 256> quantiles;
  for (size_t i = 0; i < quantiles.size(); ++i) {
    const double probability = (static_cast<double>(i) + 0.5) / 256.0;
    double low = -4;
    double high = 4;
    for (int step = 0; step < 60; ++step) {
      const double middle = 0.5 * (low + high);
      (0.5 * std::erfc(-middle / std::sqrt(2.0)) < probability ? low : high) = middle;
    }
    quantiles[i] = static_cast<float>(low);
  }
  return quantiles;
}

const std::array<float, 256>& quantiles() {
  static const std::array<float, 256> table = normal_quantiles();
  return table;
}
constexpr float kLargestQuantile = 2.886f;  // of the table

float standard_deviation(const StoredTensor& tensor) {
  return 1.0f / std::sqrt(static_cast<float>(tensor.spec.cols));
}

// The scale that maps the largest deviate to the largest code.
float group_scale(const StoredTensor& tensor) {
  return standard_deviation(tensor) * kLargestQuantile /
         static_cast<float>(max_weight_code(tensor.format));
}

// One table entry per random byte, in the tensor's format.
template <typename T, typename Convert>
void fill(T* out, int64_t n, uint64_t seed, uint64_t first, Convert convert) {
  std::array<T, 256> table;
  for (size_t i = 0; i < table.size(); ++i)
    table[i] = convert(quantiles()[i]);
  for (int64_t i = 0; i < n; i += 8) {
    uint64_t word = random_bytes(seed, first + static_cast<uint64_t>(i));
    for (int64_t j = i; j < std::min(n, i + 8); ++j, word >>= 8)
      out[j] = table[word & 0xff];
  }
}

uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

void fill_values(const StoredTensor& tensor, uint64_t seed, uint64_t first, int64_t n,
                 uint8_t* out) {
  const float deviation = standard_deviation(tensor);
  switch (tensor.format) {
    case WeightFormat::kF32:
      fill(reinterpret_cast<float*>(out), n, seed, first,
           [&](float quantile) { return quantile * deviation; });
      break;
    case WeightFormat::kF16:
      fill(reinterpret_cast<uint16_t*>(out), n, seed, first,
           [&](float quantile) { return float_to_half(quantile * deviation); });
      break;
    case WeightFormat::kBF16:
      fill(reinterpret_cast<uint16_t*>(out), n, seed, first,
           [&](float quantile) { return float_to_bf16(quantile * deviation); });
      break;
    default: {
      const auto largest = static_cast<float>(max_weight_code(tensor.format));
      fill(reinterpret_cast<int8_t*>(out), n, seed, first, [&](float quantile) {
        return static_cast<int8_t>(std::lround(quantile / kLargestQuantile * largest));
      });
    }
  }
}

}  // namespace

SyntheticSource::SyntheticSource(const ModelConfig& config, std::vector<StoredTensor> tensors,
                                 uint64_t seed)
    : config_(config), tensors_(std::move(tensors)), seed_(seed) {
  for (StoredTensor& tensor : tensors_) {
    // A power of two that brings the stored fp16 scale to [1, 2).
    if (is_quantized(tensor.format))
      tensor.scale_multiplier = std::ldexp(1.0f, std::ilogb(group_scale(tensor)));
  }
}

int64_t SyntheticSource::n_pieces(int64_t tensor) const {
  const StoredTensor& stored = tensors_[static_cast<size_t>(tensor)];
  const int64_t row_bytes = stored.spec.cols * element_bytes(stored.format);
  return ceil_div(stored.spec.rows, rows_per_piece(stored.spec.rows, row_bytes));
}

Status SyntheticSource::read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer,
                                   WeightPiece* out) {
  const StoredTensor& stored = tensors_[static_cast<size_t>(tensor)];
  const int64_t cols = stored.spec.cols;
  const int64_t rows = rows_per_piece(stored.spec.rows, cols * element_bytes(stored.format));
  out->row_begin = piece * rows;
  out->n_rows = std::min(rows, stored.spec.rows - out->row_begin);
  const int64_t n = out->n_rows * cols;
  const int64_t values_bytes = align_up(n * element_bytes(stored.format), 2);
  const int64_t n_scales = out->n_rows * scales_per_row(stored.format, cols);
  const int64_t needed = values_bytes + 2 * n_scales;
  if (buffer.decoded.size() < needed) {
    FLEXQ_ASSIGN_OR_RETURN(buffer.decoded, HostBuffer::allocate(needed, "synthetic weights"));
  }
  uint8_t* values = buffer.decoded.data();
  out->values = values;
  out->scales = nullptr;
  if (stored.spec.is_vector()) {
    const float value = stored.spec.role == TensorRole::kNorm ? 1.0f : 0.0f;
    std::fill_n(reinterpret_cast<float*>(values), n, value);
    return Status();
  }
  const uint64_t tensor_seed = random_bytes(seed_, static_cast<uint64_t>(tensor));
  fill_values(stored, tensor_seed, static_cast<uint64_t>(out->row_begin * cols), n, values);
  if (n_scales > 0) {
    auto* scales = reinterpret_cast<uint16_t*>(values + values_bytes);
    std::fill_n(scales, n_scales, float_to_half(group_scale(stored) / stored.scale_multiplier));
    out->scales = scales;
  }
  return Status();
}

std::optional<Sha256Digest> SyntheticSource::identity() const {
  Sha256 hash;
  const auto add = [&](const auto& value) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    hash.update({bytes, sizeof value});
  };
  // Another name when the same seed is to give other weights.
  for (const char letter : std::string_view("FLEXQ-SYNTHETIC-1"))
    add(letter);
  add(seed_);
  for (const int32_t value :
       {config_.n_layers, config_.n_embd, config_.n_heads, config_.n_kv_heads, config_.head_dim,
        config_.n_ff, config_.n_vocab, config_.context_tokens, config_.rope.original_context_tokens,
        int32_t{config_.tied_embeddings}, int32_t{config_.attention_bias},
        int32_t{config_.mlp_bias}, static_cast<int32_t>(config_.rope.type)}) {
    add(value);
  }
  for (const double value :
       {static_cast<double>(config_.rms_norm_eps), config_.rope.theta, config_.rope.factor,
        config_.rope.low_freq_factor, config_.rope.high_freq_factor}) {
    add(value);
  }
  for (const StoredTensor& tensor : tensors_) {
    add(static_cast<int32_t>(tensor.format));
    add(tensor.activation_bits);
  }
  return hash.finish();
}

std::vector<StoredTensor> unquantized_tensors(const ModelConfig& config) {
  std::vector<StoredTensor> tensors;
  for (TensorSpec& spec : expected_tensors(config)) {
    StoredTensor tensor;
    tensor.spec = std::move(spec);
    tensor.format = tensor.spec.is_vector() ? WeightFormat::kF32 : WeightFormat::kF16;
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace flexq
