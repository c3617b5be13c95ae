#include "checkpoint/shard_index.h"

#include <set>

#include "base/json.h"
#include "checkpoint/printable.h"

namespace flexq {
namespace {

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos &&
         name.find("..") == std::string::npos && name.size() <= 255;
}

Status check_shard_name(const std::string& name, const std::string& path) {
  if (!is_plain_name(name)) {
    return Status::error(StatusCode::kCorrupt,
                         "%s: shard \"%s\": expected the plain name of a file in the same folder",
                         path.c_str(), printable(name).c_str());
  }
  if (!name.ends_with(".safetensors")) {
    return Status::error(StatusCode::kUnsupportedModel,
                         "%s: shard \"%s\": expected a .safetensors file", path.c_str(),
                         printable(name).c_str());
  }
  return Status();
}

}  // namespace

Result<std::map<std::string, std::string>> read_shard_index(std::string_view text,
                                                            const std::string& path) {
  FLEXQ_ASSIGN_OR_RETURN(const JsonDocument parsed, parse_json(text, path));
  const Json& document = parsed.root();
  const auto corrupt = [&](const char* what) {
    return Status::error(StatusCode::kCorrupt, "%s: %s", path.c_str(), what);
  };
  if (!document.is_object()) return corrupt("expected a JSON object");
  const auto weight_map = document.find("weight_map");
  if (weight_map == document.end()) return corrupt("weight_map is missing");
  if (!weight_map->is_object()) return corrupt("weight_map: expected an object");
  if (weight_map->empty()) return corrupt("weight_map: expected tensors, found none");

  std::map<std::string, std::string> shard_of_tensor;
  std::set<std::string> shards;
  for (auto it = weight_map->begin(); it != weight_map->end(); ++it) {
    if (!it->is_string()) {
      return Status::error(StatusCode::kCorrupt,
                           "%s: weight_map: tensor %s: expected a file name, found %s",
                           path.c_str(), printable(it.key()).c_str(), it->type_name());
    }
    const auto name = it->get<std::string>();
    if (shards.insert(name).second) FLEXQ_RETURN_IF_ERROR(check_shard_name(name, path));
    if (shards.size() > kMaxShards) {
      return Status::error(StatusCode::kLimitExceeded, "%s: more than %zu shards", path.c_str(),
                           kMaxShards);
    }
    shard_of_tensor.emplace(it.key(), name);
  }
  return shard_of_tensor;
}

}  // namespace flexq
