// A SentencePiece BPE tokenizer.model made from nothing, for checkpoints with any small vocabulary.
#pragma once

#include <cstdint>
#include <string>

namespace flexq::test {

inline constexpr int32_t kMinSyntheticVocab = 259;  // <unk>, <s>, </s> and 256 bytes

// The bytes of a tokenizer.model laid out as LLaMA-2's: ids 0 <unk>, 1 <s>, 2 </s>, 3 to 258 bytes
// <0x00> to <0xFF>, then merges in falling score, single letters last. Every merge is a shorter
// piece and a letter. BPE with byte fallback, dummy prefix, no normalization. Throws
// std::runtime_error below kMinSyntheticVocab.
std::string synthetic_tokenizer_model(int32_t n_vocab);

}  // namespace flexq::test
