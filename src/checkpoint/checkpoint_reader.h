// A Hugging Face LLaMA checkpoint: a folder with config.json and safetensors weights, one
// model.safetensors or shards with model.safetensors.index.json (the single file wins where both
// exist, as in transformers). Read strictly: the tensors must be exactly those that config.json
// implies. Two leftovers that transformers ignores as well are allowed: rotary_emb.inv_freq
// buffers of old conversions, and lm_head.weight beside tied embeddings (the embedding is used).
// Its tokenizer: text/tokenizer_files.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/safetensors.h"
#include "model/weight_source.h"

namespace flexq {

// One weight file of a checkpoint.
struct CheckpointFile {
  std::string name;  // within the folder
  int64_t bytes = 0;
};

// Immutable after open(); all members may be called from several threads at once. Holds one file
// descriptor per shard and no weights: pieces are read when asked for.
class Checkpoint : public WeightSource {
 public:
  // Reads config.json and the headers of all shards. Errors name the file and the thing in it:
  // kNotFound (folder, config.json, weights or a shard missing), kInvalidArgument (not a folder),
  // kCorrupt, kLimitExceeded, kUnsupportedModel (another architecture, dtype, extra tensors, only
  // PyTorch .bin weights), kIo.
  static Result<std::unique_ptr<Checkpoint>> open(const std::string& directory);

  const ModelConfig& config() const override { return config_; }
  // Tensors keep the checkpoint's type: kF32, kF16 or kBF16.
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  int64_t n_pieces(int64_t tensor) const override;
  // kNonFinite names tensor, row and column of the first NaN or infinity. Uses buffer.decoded only.
  Status read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer, WeightPiece* out) override;

  const std::string& directory() const { return directory_; }
  // The text of config.json, for a bundle's record of where it came from.
  const std::string& config_json() const { return config_json_; }
  const std::vector<CheckpointFile>& files() const { return files_; }

 private:
  // Where a tensor lies: entries()[entry] of shards_[shard].
  struct Location {
    size_t shard = 0;
    size_t entry = 0;
  };

  Checkpoint() = default;
  Status read_config();
  Status open_shards();
  Status add_shard(const std::string& name);
  Status match_tensors();

  std::string directory_;
  std::string config_json_;
  ModelConfig config_;
  std::vector<CheckpointFile> files_;    // parallel to shards_
  std::vector<SafetensorsFile> shards_;  // sorted by name
  std::vector<StoredTensor> tensors_;
  std::vector<Location> locations_;  // parallel to tensors_
};

}  // namespace flexq
