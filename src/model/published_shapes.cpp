#include "model/published_shapes.h"

#include <array>
#include <string>

namespace flexq {
namespace {

struct Shape {
  std::string_view name;
  int32_t n_layers;
  int32_t n_embd;
  int32_t n_heads;
  int32_t n_kv_heads;
  int32_t n_ff;
  int32_t n_vocab;
  int32_t context_tokens;
  double rope_theta;
};

// From the config.json of each model.
constexpr std::array<Shape, 6> kShapes = {{
    {"tinyllama-1.1b", 22, 2048, 32, 4, 5632, 32000, 2048, 10000.0},
    {"llama-2-7b", 32, 4096, 32, 32, 11008, 32000, 4096, 10000.0},
    {"llama-2-13b", 40, 5120, 40, 40, 13824, 32000, 4096, 10000.0},
    {"llama-2-70b", 80, 8192, 64, 8, 28672, 32000, 4096, 10000.0},
    {"llama-3-8b", 32, 4096, 32, 8, 14336, 128256, 8192, 500000.0},
    {"llama-3-70b", 80, 8192, 64, 8, 28672, 128256, 8192, 500000.0},
}};

constexpr std::array<std::string_view, kShapes.size()> kNames = [] {
  std::array<std::string_view, kShapes.size()> names;
  for (size_t i = 0; i < names.size(); ++i)
    names[i] = kShapes[i].name;
  return names;
}();

}  // namespace

std::span<const std::string_view> published_shape_names() {
  return kNames;
}

Result<ModelConfig> published_shape(std::string_view name) {
  std::string known;
  for (const Shape& shape : kShapes) {
    if (shape.name != name) {
      if (!known.empty()) known += ", ";
      known += shape.name;
      continue;
    }
    ModelConfig config;
    config.n_layers = shape.n_layers;
    config.n_embd = shape.n_embd;
    config.n_heads = shape.n_heads;
    config.n_kv_heads = shape.n_kv_heads;
    config.head_dim = shape.n_embd / shape.n_heads;
    config.n_ff = shape.n_ff;
    config.n_vocab = shape.n_vocab;
    config.context_tokens = shape.context_tokens;
    config.rope.theta = shape.rope_theta;
    config.bos_token_id = 1;
    return config;
  }
  return Status::error(StatusCode::kUnsupportedValue, "unknown shape '%.*s', expected one of %s",
                       static_cast<int>(name.size()), name.data(), known.c_str());
}

}  // namespace flexq
