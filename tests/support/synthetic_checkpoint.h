// LLaMA checkpoints made from a seed: valid ones for every area's tests, and ones that are broken
// in exactly one way for the reader's. The same options give the same bytes on every machine.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/model_config.h"
#include "model/weight_source.h"

namespace flexq::test {

// A valid model of 2 layers: hidden 64, 4 heads of 16, 2 KV heads, FFN 160 (one group of 128 and a
// ragged one), vocabulary 320, context 128, bos 1, eos 2.
ModelConfig small_model_config();

enum class RopeDialect { kOld, kNew };  // rope_theta and rope_scaling, or rope_parameters

struct PlantedValue {
  std::string tensor;
  int64_t row = 0;
  int64_t col = 0;
  float value = 0.0f;  // may be NaN or infinity
};

struct ExtraTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype = "F32";  // F32, F16, BF16, F64 or I8; the data is zero
};

struct SyntheticOptions {
  ModelConfig config = small_model_config();
  uint64_t seed = 1;
  WeightFormat format = WeightFormat::kBF16;  // kF32, kF16 or kBF16
  int32_t n_shards = 1;                       // above 1: shards with an index
  RopeDialect rope_dialect = RopeDialect::kOld;
  bool with_tokenizer = true;         // needs n_vocab >= kMinSyntheticVocab
  bool byte_level_tokenizer = false;  // LLaMA-3's kind: needs n_vocab >= kMinByteLevelVocab

  // Deviations. A tensor that none of the model's is called is an error of the test.
  std::string config_patch;                    // JSON merge patch (RFC 7386), or empty
  std::string generation_config;               // text of generation_config.json, or empty
  std::vector<std::string> dropped;            // tensors left out
  std::map<std::string, std::string> renamed;  // old name -> new name
  std::map<std::string, std::vector<int64_t>>
      reshaped;                                      // new shape, with as many bytes as it needs
  std::map<std::string, std::vector<float>> values;  // (rows, cols) instead of the seed's
  std::vector<PlantedValue> planted;
  std::vector<ExtraTensor> extra;  // in the last shard
};

// The fp32 values, (rows, cols) row-major, from which a tensor's stored ones are rounded: about
// normal, standard deviation 1 / sqrt(cols) in matrices and 0.02 in biases, 1 +- 0.1 in norms.
// A function of the seed and the tensor's name only.
std::vector<float> synthetic_tensor(const TensorSpec& spec, uint64_t seed);

// File name -> content: config.json, model.safetensors or model-0000I-of-0000N.safetensors and
// model.safetensors.index.json, tokenizer.model. Throws std::runtime_error for options that
// contradict themselves.
using SyntheticFiles = std::map<std::string, std::string>;
SyntheticFiles make_synthetic_checkpoint(const SyntheticOptions& options);

// Writes the files into an existing folder.
void write_files(const std::string& directory, const SyntheticFiles& files);
void write_synthetic_checkpoint(const std::string& directory, const SyntheticOptions& options);

// The bytes of one safetensors file: 8 bytes of length, `header` padded to a multiple of 8, `data`.
std::string safetensors_bytes(const std::string& header, const std::string& data);

}  // namespace flexq::test
