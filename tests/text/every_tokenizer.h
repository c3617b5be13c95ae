// Tokenizers of every kind and from every file form.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/text_fixtures.h"

namespace flexq::test {

struct NamedTokenizer {
  std::string name;
  std::shared_ptr<const Tokenizer> tokenizer;
};

// The SentencePiece models of model_paths(), the small synthetic byte-level ones and a character
// BPE made of a SentencePiece model; with the reference data also LLaMA-2's tokenizer.json and both
// files of LLaMA-3.
std::vector<NamedTokenizer> every_tokenizer();

inline constexpr int32_t kSyntheticByteLevelVocab = 900;

std::shared_ptr<const Tokenizer> tiktoken_tokenizer(const std::string& model,
                                                    const std::string& name);
std::shared_ptr<const Tokenizer> json_tokenizer(const std::string& json, const std::string& name);

// A SentencePiece model as tokenizer.json: the merges are all ways to put a piece together from two
// others, in falling order of its score (the rule of Hugging Face's converter).
std::string character_bpe_json(const TokenizerData& model);

}  // namespace flexq::test
