#include "checkpoint/checkpoint_reader.h"

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/checked.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/config_json.h"
#include "checkpoint/nonfinite.h"
#include "checkpoint/printable.h"
#include "checkpoint/shard_index.h"

namespace flexq {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
constexpr int64_t kMaxIndexBytes = int64_t{64} << 20;
constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";

// "NAME" or, in messages about several tensors, "NAME (and 3 more)".
std::string with_count(std::string_view name, size_t more) {
  std::string text = printable(name);
  if (more > 0) text += " (and " + std::to_string(more) + " more)";
  return text;
}

std::optional<WeightFormat> weight_format(std::string_view dtype) {
  if (dtype == "F32") return WeightFormat::kF32;
  if (dtype == "F16") return WeightFormat::kF16;
  if (dtype == "BF16") return WeightFormat::kBF16;
  return std::nullopt;
}

std::vector<int64_t> expected_shape(const TensorSpec& spec) {
  if (spec.is_vector()) return {spec.cols};
  return {spec.rows, spec.cols};
}

// Tensors beyond expected_tensors() that carry nothing the model needs.
bool is_ignored(std::string_view name, const ModelConfig& config) {
  if (name == "lm_head.weight") return config.tied_embeddings;
  return name.ends_with(".rotary_emb.inv_freq");
}

// Says what the folder has instead of safetensors weights.
Status no_weights(const std::string& directory) {
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<std::string> names, list_directory(directory));
  for (const std::string& name : names) {
    if (name.ends_with(".bin") || name.ends_with(".pth") || name.ends_with(".pt")) {
      return Status::error(StatusCode::kUnsupportedModel,
                           "%s: only PyTorch weights (%s), expected safetensors (%s, or shards "
                           "with %s)",
                           directory.c_str(), printable(name).c_str(), kSingleFile, kIndexFile);
    }
  }
  return Status::error(StatusCode::kNotFound, "%s: no weights, expected %s, or shards with %s",
                       directory.c_str(), kSingleFile, kIndexFile);
}

Status check_tensor(const TensorSpec& spec, const SafetensorsEntry& entry) {
  const std::vector<int64_t> shape = expected_shape(spec);
  if (entry.shape != shape) {
    return Status::error(StatusCode::kCorrupt, "tensor %s: shape %s, expected %s",
                         spec.name.c_str(), shape_text(entry.shape).c_str(),
                         shape_text(shape).c_str());
  }
  if (!weight_format(entry.dtype)) {
    return Status::error(StatusCode::kUnsupportedModel,
                         "tensor %s: dtype %s is not supported, expected F32, F16 or BF16",
                         spec.name.c_str(), entry.dtype.c_str());
  }
  return Status();
}

Status reserve(HostBuffer& buffer, int64_t bytes) {
  if (buffer.size() >= bytes) return Status();
  buffer.release();
  FLEXQ_ASSIGN_OR_RETURN(buffer, HostBuffer::allocate(bytes, "checkpoint piece"));
  return Status();
}

int64_t row_bytes(const StoredTensor& tensor) {
  return tensor.spec.cols * element_bytes(tensor.format);
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(const std::string& directory) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint);
  checkpoint->directory_ = directory;
  FLEXQ_RETURN_IF_ERROR(checkpoint->read_config());
  FLEXQ_RETURN_IF_ERROR(checkpoint->open_shards());
  Status matched = checkpoint->match_tensors();
  if (!matched.ok()) return std::move(matched).with_context(directory);
  return checkpoint;
}

Status Checkpoint::read_config() {
  if (!is_directory(directory_)) {
    if (is_regular_file(directory_)) {
      return Status::error(StatusCode::kInvalidArgument,
                           "%s: a file, expected the folder of a checkpoint", directory_.c_str());
    }
    return Status::error(StatusCode::kNotFound, "%s: no such folder", directory_.c_str());
  }
  const std::string path = directory_ + "/config.json";
  FLEXQ_ASSIGN_OR_RETURN(config_json_, read_text_file(path, kMaxConfigBytes));
  FLEXQ_ASSIGN_OR_RETURN(config_, read_config_json(config_json_, path));

  const std::string generation_path = directory_ + "/generation_config.json";
  FLEXQ_ASSIGN_OR_RETURN(const bool has_generation, regular_file_exists(generation_path));
  if (!has_generation) return Status();
  FLEXQ_ASSIGN_OR_RETURN(const std::string text, read_text_file(generation_path, kMaxConfigBytes));
  return merge_generation_config(text, generation_path, &config_);
}

Status Checkpoint::open_shards() {
  FLEXQ_ASSIGN_OR_RETURN(const bool has_single,
                         regular_file_exists(directory_ + "/" + kSingleFile));
  if (has_single) return add_shard(kSingleFile);
  const std::string index_path = directory_ + "/" + kIndexFile;
  if (!is_regular_file(index_path)) return no_weights(directory_);
  FLEXQ_ASSIGN_OR_RETURN(const std::string text, read_text_file(index_path, kMaxIndexBytes));
  FLEXQ_ASSIGN_OR_RETURN(const auto shard_of_tensor, read_shard_index(text, index_path));

  std::map<std::string_view, size_t> tensors_in_shard;  // by shard name, as the index counts them
  for (const auto& [tensor, shard] : shard_of_tensor)
    ++tensors_in_shard[shard];
  for (const auto& [shard, n_listed] : tensors_in_shard) {
    FLEXQ_RETURN_IF_ERROR(add_shard(std::string(shard)));
    // Every tensor of the shard must be listed there; then equal counts mean equal sets. A tensor
    // that two shards hold is listed in one of them and unexpected in the other.
    for (const SafetensorsEntry& entry : shards_.back().entries()) {
      const auto listed = shard_of_tensor.find(entry.name);
      if (listed != shard_of_tensor.end() && listed->second == shard) continue;
      return Status::error(
          StatusCode::kCorrupt, "%s: tensor %s is in shard %s, the index has %s",
          index_path.c_str(), printable(entry.name).c_str(), printable(shard).c_str(),
          listed == shard_of_tensor.end() ? "no such tensor" : printable(listed->second).c_str());
    }
    if (shards_.back().entries().size() == n_listed) continue;
    std::set<std::string_view> present;
    for (const SafetensorsEntry& entry : shards_.back().entries())
      present.insert(entry.name);
    for (const auto& [tensor, shard_name] : shard_of_tensor) {
      if (shard_name != shard || present.contains(tensor)) continue;
      return Status::error(
          StatusCode::kCorrupt, "%s: tensor %s is not in its shard %s", index_path.c_str(),
          with_count(tensor, n_listed - present.size() - 1).c_str(), printable(shard).c_str());
    }
  }
  return Status();
}

Status Checkpoint::add_shard(const std::string& name) {
  FLEXQ_ASSIGN_OR_RETURN(SafetensorsFile shard, SafetensorsFile::open(directory_ + "/" + name));
  files_.push_back({name, shard.file_bytes()});
  shards_.push_back(std::move(shard));
  return Status();
}

Status Checkpoint::match_tensors() {
  std::map<std::string_view, Location> present;
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    const std::vector<SafetensorsEntry>& entries = shards_[shard].entries();
    for (size_t entry = 0; entry < entries.size(); ++entry)
      present.emplace(entries[entry].name, Location{shard, entry});
  }

  std::string first_missing;
  size_t n_missing = 0;
  for (TensorSpec& spec : expected_tensors(config_)) {
    const auto found = present.find(spec.name);
    if (found == present.end()) {
      if (n_missing++ == 0) first_missing = spec.name;
      continue;
    }
    const Location location = found->second;
    const SafetensorsEntry& entry = shards_[location.shard].entries()[location.entry];
    FLEXQ_RETURN_IF_ERROR(check_tensor(spec, entry));
    present.erase(found);
    StoredTensor tensor;
    tensor.spec = std::move(spec);
    tensor.format = *weight_format(entry.dtype);
    tensors_.push_back(std::move(tensor));
    locations_.push_back(location);
  }
  if (n_missing > 0) {
    return Status::error(StatusCode::kCorrupt, "tensor %s is missing",
                         with_count(first_missing, n_missing - 1).c_str());
  }

  const size_t n_ignored =
      std::erase_if(present, [this](const auto& item) { return is_ignored(item.first, config_); });
  if (n_ignored > 0)
    log(LogLevel::kInfo, "%s: %zu tensors ignored (tied lm_head, rotary buffers)",
        directory_.c_str(), n_ignored);
  if (present.empty()) return Status();
  return Status::error(StatusCode::kUnsupportedModel,
                       "tensor %s is not part of a LLaMA model with this config.json",
                       with_count(present.begin()->first, present.size() - 1).c_str());
}

int64_t Checkpoint::n_pieces(int64_t tensor) const {
  if (tensor < 0 || tensor >= std::ssize(tensors_)) return 0;
  const StoredTensor& stored = tensors_[static_cast<size_t>(tensor)];
  return ceil_div(stored.spec.rows, rows_per_piece(stored.spec.rows, row_bytes(stored)));
}

Status Checkpoint::read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer,
                              WeightPiece* out) {
  if (piece < 0 || piece >= n_pieces(tensor)) {
    return Status::error(StatusCode::kInvalidArgument,
                         "piece %lld of tensor %lld: expected 0 to %lld",
                         static_cast<long long>(piece), static_cast<long long>(tensor),
                         static_cast<long long>(n_pieces(tensor) - 1));
  }
  const StoredTensor& stored = tensors_[static_cast<size_t>(tensor)];
  const Location location = locations_[static_cast<size_t>(tensor)];
  const SafetensorsFile& shard = shards_[location.shard];

  // Products of validated dimensions: below 2^20 rows of 2^20 bytes.
  const int64_t piece_rows = rows_per_piece(stored.spec.rows, row_bytes(stored));
  const int64_t row_begin = piece * piece_rows;
  const int64_t n_rows = std::min(piece_rows, stored.spec.rows - row_begin);
  const int64_t bytes = n_rows * row_bytes(stored);
  FLEXQ_RETURN_IF_ERROR(reserve(buffer.decoded, bytes));
  const std::span<uint8_t> values = buffer.decoded.span().first(static_cast<size_t>(bytes));
  FLEXQ_RETURN_IF_ERROR(
      shard.read(shard.entries()[location.entry], row_begin * row_bytes(stored), values));

  if (const std::optional<int64_t> at = find_nonfinite(values, stored.format)) {
    return Status::error(StatusCode::kNonFinite,
                         "%s: tensor %s: NaN or infinity at row %lld, column %lld",
                         shard.path().c_str(), stored.spec.name.c_str(),
                         static_cast<long long>(row_begin + *at / stored.spec.cols),
                         static_cast<long long>(*at % stored.spec.cols));
  }
  *out = WeightPiece{row_begin, n_rows, values.data(), nullptr};
  return Status();
}

}  // namespace flexq
