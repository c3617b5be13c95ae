// The three checkpoints that came out of real training, read back against the bytes of their files.
#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint_reader.h"
#include "support/safetensors_file.h"
#include "support/test_data.h"

using namespace flexq;
using namespace flexq::test;

namespace {

std::string file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Tensor name -> bytes, by a few lines that share nothing with the library's reader.
std::map<std::string, std::string> raw_tensors(const std::string& path) {
  const std::string bytes = file_bytes(path);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  const nlohmann::json header = nlohmann::json::parse(bytes.substr(8, header_bytes));
  std::map<std::string, std::string> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const auto begin = entry["data_offsets"][0].get<size_t>();
    const auto end = entry["data_offsets"][1].get<size_t>();
    tensors[name] = bytes.substr(8 + header_bytes + begin, end - begin);
  }
  return tensors;
}

// Opens, checks the config, and compares every reassembled tensor with its file's bytes.
void check_checkpoint(const std::string& directory, const ModelConfig& expected,
                      WeightFormat format) {
  INFO(directory);
  Result<std::unique_ptr<Checkpoint>> opened = Checkpoint::open(directory);
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  Checkpoint& checkpoint = **opened;
  CHECK(checkpoint.config() == expected);
  CHECK(checkpoint.config_json() == file_bytes(directory + "/config.json"));

  std::map<std::string, std::string> raw;
  for (const CheckpointFile& file : checkpoint.files()) {
    raw.merge(raw_tensors(directory + "/" + file.name));
    CHECK(file.bytes == std::ssize(file_bytes(directory + "/" + file.name)));
  }
  CHECK(raw.size() == checkpoint.tensors().size());
  PieceBuffer buffer;
  for (int64_t i = 0; i < std::ssize(checkpoint.tensors()); ++i) {
    const StoredTensor& tensor = checkpoint.tensors()[static_cast<size_t>(i)];
    INFO(tensor.spec.name);
    CHECK(tensor.format == format);
    std::string assembled;
    for (int64_t p = 0; p < checkpoint.n_pieces(i); ++p) {
      WeightPiece piece;
      const Status status = checkpoint.read_piece(i, p, buffer, &piece);
      REQUIRE_MESSAGE(status.ok(), status.message());
      const int64_t row_bytes = tensor.spec.cols * element_bytes(format);
      CHECK(piece.row_begin * row_bytes == std::ssize(assembled));
      if (p + 1 < checkpoint.n_pieces(i)) CHECK(piece.n_rows % kPieceRowMultiple == 0);
      assembled.append(reinterpret_cast<const char*>(piece.values),
                       static_cast<size_t>(piece.n_rows * row_bytes));
    }
    CHECK((assembled == raw[tensor.spec.name]));
  }
}

}  // namespace

TEST_CASE("stories260k: F32, one file") {
  ModelConfig config;
  config.n_layers = 5;
  config.n_embd = 64;
  config.n_heads = 8;
  config.n_kv_heads = 4;
  config.head_dim = 8;
  config.n_ff = 172;
  config.n_vocab = 512;
  config.context_tokens = 512;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  check_checkpoint(source_path("samples/data/stories260k"), config, WeightFormat::kF32);
}

TEST_CASE("wiki-tiny-1m: BF16, tied embeddings, rope_parameters") {
  ModelConfig config;
  config.n_layers = 6;
  config.n_embd = 128;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 32;
  config.n_ff = 384;
  config.n_vocab = 2048;
  config.context_tokens = 512;
  config.tied_embeddings = true;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  check_checkpoint(source_path("tests/data/wiki-tiny-1m"), config, WeightFormat::kBF16);
}

TEST_CASE("wiki-llama2-28m: BF16, five shards") {
  const std::string directory = reference_path("models/wiki-llama2-28m");
  if (directory.empty()) return;
  ModelConfig config;
  config.n_layers = 6;
  config.n_embd = 512;
  config.n_heads = 8;
  config.n_kv_heads = 8;
  config.head_dim = 64;
  config.n_ff = 1408;
  config.n_vocab = 8192;
  config.context_tokens = 1024;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  check_checkpoint(directory, config, WeightFormat::kBF16);
}

TEST_CASE("reference logits are readable") {
  const auto tensors =
      read_reference_tensors(source_path("tests/data/wiki-tiny-1m-golden/logits.safetensors"));
  const ReferenceTensor& logits = tensors.at("fp32.prompt0.logits");
  CHECK(logits.shape == std::vector<int64_t>{10, 2048});
  CHECK(logits.f32.size() == 10 * 2048);
  CHECK(logits.i32.empty());
  CHECK_THROWS(read_reference_tensors("/nonexistent"));
}
