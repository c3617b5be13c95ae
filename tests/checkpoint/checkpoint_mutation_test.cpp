// Damaged checkpoints: whatever the bytes say, opening and reading end in a status. Meant to be run
// under ASan and UBSan as well.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>

#include "checkpoint/checkpoint_reader.h"
#include "expect_error.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

using namespace flexq;
using namespace flexq::test;

namespace {

// Opens and, if that works, reads all weights.
Status load(const std::string& directory) {
  FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(directory));
  PieceBuffer buffer;
  for (int64_t tensor = 0; tensor < std::ssize(checkpoint->tensors()); ++tensor) {
    for (int64_t piece = 0; piece < checkpoint->n_pieces(tensor); ++piece) {
      WeightPiece out;
      FLEXQ_RETURN_IF_ERROR(checkpoint->read_piece(tensor, piece, buffer, &out));
    }
  }
  return Status();
}

// What damaged data may end in: never an argument error, an internal error or out of memory.
bool is_data_error(StatusCode code) {
  switch (code) {
    case StatusCode::kCorrupt:
    case StatusCode::kUnsupportedVersion:
    case StatusCode::kUnsupportedModel:
    case StatusCode::kLimitExceeded:
    case StatusCode::kNotFound:  // an index that names another file
    case StatusCode::kNonFinite:
      return true;
    default:
      return false;
  }
}

// Where the header of a safetensors file ends.
size_t data_begin(const std::string& file) {
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  return sizeof header_bytes + header_bytes;
}

size_t below(std::mt19937_64& random, size_t n) {
  return static_cast<size_t>(random() % n);
}

// One to four edits of the kinds that JSON readers get wrong.
std::string mutated(const std::string& original, std::mt19937_64& random) {
  static const std::vector<std::string> kTokens = {"0",
                                                   "-1",
                                                   "1e999",
                                                   "1.5",
                                                   "9223372036854775807",
                                                   "18446744073709551615",
                                                   "184467440737095516160",
                                                   "null",
                                                   "true",
                                                   "\"\"",
                                                   "[]",
                                                   "{}",
                                                   "[[[[[[[[",
                                                   "{\"a\":",
                                                   "\\u0000",
                                                   "\xff",
                                                   "\xed\xa0\x80",
                                                   ",",
                                                   ":",
                                                   "\"",
                                                   "}",
                                                   "]",
                                                   "F64",
                                                   "../"};
  std::string text = original;
  for (size_t n = 1 + below(random, 4); n > 0 && !text.empty(); --n) {
    const size_t at = below(random, text.size());
    switch (below(random, 6)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ (1 << below(random, 8)));
        break;
      case 1:
        text.erase(at, 1 + below(random, 16));
        break;
      case 2:
        text.insert(at, kTokens[below(random, kTokens.size())]);
        break;
      case 3: {
        const size_t from = below(random, text.size());
        const std::string part = text.substr(from, below(random, 80));
        text.insert(at, part);
        break;
      }
      case 4: {
        // A whole number becomes another one.
        const size_t begin = text.find_first_of("0123456789", at);
        if (begin == std::string::npos) break;
        const size_t end = text.find_first_not_of("0123456789", begin);
        text.replace(begin, (end == std::string::npos ? text.size() : end) - begin,
                     kTokens[below(random, kTokens.size())]);
        break;
      }
      default:
        text[at] = static_cast<char>(random());
        break;
    }
  }
  return text;
}

}  // namespace

TEST_CASE("every truncation of the header and many of the data end in a clean status") {
  SyntheticOptions options;
  options.config.n_layers = 1;
  TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), options);
  const std::string path = directory.file("model.safetensors");
  const uint64_t full = std::filesystem::file_size(path);
  const Result<SafetensorsFile> file = SafetensorsFile::open(path);
  REQUIRE(file.ok());
  const uint64_t header_end = data_begin(make_synthetic_checkpoint(options)["model.safetensors"]);

  std::vector<uint64_t> sizes = {full - 1, full - 2};
  for (uint64_t i = 400; i > 0; --i)
    sizes.push_back(header_end + (full - header_end - 1) * i / 401);
  for (const SafetensorsEntry& entry : file->entries())
    if (entry.offset > 0) sizes.push_back(static_cast<uint64_t>(entry.offset));
  std::sort(sizes.rbegin(), sizes.rend());
  for (uint64_t size = header_end; size-- > 0;)
    sizes.push_back(size);
  for (const uint64_t size : sizes) {  // descending: the file is cut in place
    std::filesystem::resize_file(path, size);
    const Status status = load(directory.path());
    const std::string message = status.message();
    INFO(size, " of ", full, " bytes: ", message);
    REQUIRE(status.code() == StatusCode::kCorrupt);
    REQUIRE(message.find("model.safetensors: file of " + std::to_string(size) + " bytes") !=
            std::string::npos);
    if (size >= header_end)
      REQUIRE(message.find("expected " + std::to_string(full)) != std::string::npos);
  }
}

TEST_CASE("random mutations of config.json, the index and the headers end in a status") {
  SyntheticOptions options;
  options.config.n_layers = 1;
  options.config.n_embd = 16;
  options.config.n_heads = 2;
  options.config.n_kv_heads = 1;
  options.config.head_dim = 8;
  options.config.n_ff = 24;
  options.config.n_vocab = 32;
  options.config.eos_token_ids = {2, 3};
  options.config.rope = {RopeType::kLlama3, 500000.0, 8.0, 1.0, 4.0, 64};
  options.generation_config = R"({"eos_token_id": [2, 5]})";
  options.with_tokenizer = false;
  options.n_shards = 2;
  const SyntheticFiles files = make_synthetic_checkpoint(options);
  TemporaryDirectory directory;
  write_files(directory.path(), files);
  REQUIRE(load(directory.path()).ok());

  for (const std::string name :
       {"config.json", "generation_config.json", "model.safetensors.index.json",
        "model-00001-of-00002.safetensors"}) {
    INFO(name);
    const std::string& original = files.at(name);
    const bool is_shard = name.ends_with(".safetensors");
    // Of a shard only the header and its length: the weights may be any bytes.
    const size_t head = is_shard ? data_begin(original) : original.size();
    std::mt19937_64 random(7);
    int n_accepted = 0;
    for (int i = 0; i < 2500; ++i) {
      std::string changed = mutated(original.substr(0, head), random) + original.substr(head);
      // Half of the shards get a length that fits, so that mutations reach the JSON.
      if (is_shard && i % 2 == 0) {
        changed =
            safetensors_bytes(mutated(original.substr(8, head - 8), random), original.substr(head));
      }
      write_files(directory.path(), {{name, changed}});
      const Status status = load(directory.path());
      n_accepted += status.ok();
      if (status.ok() || is_data_error(status.code())) continue;
      INFO("mutation ", i, ": ", changed.substr(0, head));
      FAIL_CHECK("status ", static_cast<int>(status.code()), ": ", status.message());
    }
    CHECK(n_accepted < 2500);
    MESSAGE(name, ": ", n_accepted, " of 2500 mutations leave a valid checkpoint");
    write_files(directory.path(), {{name, original}});
  }
}
