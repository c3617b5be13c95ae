// model.safetensors.index.json: which shard of a checkpoint holds which tensor.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/status.h"

namespace flexq {

inline constexpr size_t kMaxShards = 1024;

// Tensor name -> file name. Every file name is a plain name that ends in ".safetensors": one that
// could leave the folder ('/', '\', "..") is refused with kCorrupt. `path` names the index in
// messages.
Result<std::map<std::string, std::string>> read_shard_index(std::string_view text,
                                                            const std::string& path);

}  // namespace flexq
