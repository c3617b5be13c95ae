// Writes a checkpoint whose answer is known beforehand, in bytes that no small model would write:
//   scripted_checkpoint OUT_DIR TOKENIZER.model SCRIPT.txt
// Whatever the prompt, the greedy answer is the text of SCRIPT.txt, over and over, one byte token
// per byte; a prompt that ends with one of its bytes as a byte token goes on behind that byte.
//
// How: embeddings are one-hot, attention and MLP add nothing (their output projections are zero),
// so the last hidden state is the last token's, and row `next` of lm_head has its 1 in the column
// of the token that comes before. That needs every byte of the script to occur in it once.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/synthetic_checkpoint.h"

namespace {

using flexq::test::SyntheticOptions;

constexpr int32_t kVocab = 512;         // of stories260k's tokenizer, and the width of a one-hot
constexpr int32_t kFirstByteToken = 3;  // <0x00>, behind <unk>, <s> and </s>

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// next[t]: the token that follows token t; the script's first one behind all tokens outside it.
std::vector<int32_t> next_tokens(const std::string& script) {
  std::vector<int32_t> tokens;
  for (const char byte : script)
    tokens.push_back(kFirstByteToken + static_cast<uint8_t>(byte));
  if (std::set<int32_t>(tokens.begin(), tokens.end()).size() != tokens.size() || tokens.empty())
    throw std::runtime_error("a script needs one byte or more, each of them once");
  std::vector<int32_t> next(kVocab, tokens.front());
  for (size_t i = 0; i + 1 < tokens.size(); ++i)
    next.at(static_cast<size_t>(tokens[i])) = tokens[i + 1];
  return next;
}

SyntheticOptions scripted_options(const std::string& script) {
  SyntheticOptions options;
  options.config.n_layers = 1;
  options.config.n_vocab = kVocab;
  options.config.n_embd = kVocab;
  options.with_tokenizer = false;

  const std::vector<int32_t> next = next_tokens(script);
  std::vector<float> embedding(size_t{kVocab} * kVocab);  // (n_vocab, n_embd)
  std::vector<float> lm_head(size_t{kVocab} * kVocab);    // (n_vocab, n_embd)
  for (size_t token = 0; token < kVocab; ++token) {
    embedding[token * kVocab + token] = 1.0f;
    lm_head[static_cast<size_t>(next[token]) * kVocab + token] = 1.0f;
  }
  options.values["model.embed_tokens.weight"] = std::move(embedding);
  options.values["lm_head.weight"] = std::move(lm_head);
  for (const flexq::TensorSpec& spec : flexq::expected_tensors(options.config)) {
    const bool is_output =
        spec.name.ends_with("o_proj.weight") || spec.name.ends_with("down_proj.weight");
    if (is_output) options.values[spec.name].resize(static_cast<size_t>(spec.rows * spec.cols));
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: %s OUT_DIR TOKENIZER.model SCRIPT.txt\n", argv[0]);
    return 2;
  }
  try {
    std::filesystem::create_directories(argv[1]);
    auto files = flexq::test::make_synthetic_checkpoint(scripted_options(read_file(argv[3])));
    files["tokenizer.model"] = read_file(argv[2]);
    flexq::test::write_files(argv[1], files);
  } catch (const std::exception& error) {
    fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
  return 0;
}
