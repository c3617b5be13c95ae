// Small tokenizers of every kind, made from nothing: what the target `text` runs texts through, and
// the beginnings of the corpus for tokenizer files.
#pragma once

#include <string>

namespace flexq::test {

std::string small_sentencepiece_model();
std::string small_tiktoken_model();
std::string small_byte_level_json();
// BPE over characters with byte fallback, as LLaMA-2's tokenizer.json.
std::string small_character_json();

}  // namespace flexq::test
