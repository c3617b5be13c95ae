// A byte-level BPE tokenizer made from nothing, in both forms in which LLaMA-3 has one.
#pragma once

#include <cstdint>
#include <string>

namespace flexq::test {

inline constexpr int32_t kMinByteLevelVocab = 512;  // 256 bytes and 256 special tokens

// Ids 0 to 255 are the bytes in the order of GPT-2 (printable ones first), then come merged tokens,
// among them some that end inside a character, then LLaMA-3's 256 special tokens. Both forms give
// the same ids for any text. They throw std::runtime_error below kMinByteLevelVocab.

// tokenizer.model: tokens in base64 with their ranks, without the special tokens.
std::string synthetic_tiktoken_model(int32_t n_vocab);

// tokenizer.json, with the merges that the ranks imply.
std::string synthetic_tokenizer_json(int32_t n_vocab);

// Where the special token number `index` is: <|begin_of_text|> 0, <|end_of_text|> 1,
// <|start_header_id|> 6, <|end_header_id|> 7, <|eot_id|> 9.
constexpr int32_t synthetic_special_id(int32_t n_vocab, int32_t index) {
  return n_vocab - 256 + index;
}

}  // namespace flexq::test
