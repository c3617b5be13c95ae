// The shapes of published LLaMA models, for measuring speed and memory without their weights.
#pragma once

#include <span>
#include <string_view>

#include "base/status.h"
#include "model/model_config.h"

namespace flexq {

// tinyllama-1.1b, llama-2-7b, llama-2-13b, llama-2-70b, llama-3-8b, llama-3-70b.
std::span<const std::string_view> published_shape_names();

// kUnsupportedValue, with the names that exist, for any other.
Result<ModelConfig> published_shape(std::string_view name);

}  // namespace flexq
