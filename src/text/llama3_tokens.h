// What Meta's LLaMA-3 tokenizer adds to its file of ranks: the split pattern and the special tokens
// (llama3/llama/tokenizer.py).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flexq {

inline constexpr std::string_view kLlama3SplitPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

inline constexpr int32_t kNumLlama3SpecialTokens = 256;

// The special token number `index`, of 0 to 255. LLaMA-3.1 renamed some of the reserved ones; its
// tokenizer_config.json and tokenizer.json list the new names.
inline std::string llama3_special_token(int32_t index) {
  constexpr std::string_view kNames[] = {
      "<|begin_of_text|>",   "<|end_of_text|>",   "", "",          "", "",
      "<|start_header_id|>", "<|end_header_id|>", "", "<|eot_id|>"};
  constexpr int32_t kNumNames = static_cast<int32_t>(sizeof(kNames) / sizeof(kNames[0]));
  if (index < kNumNames && !kNames[index].empty()) return std::string(kNames[index]);
  // Reserved tokens are numbered without gaps: 0 to 3, 4, 5 and up.
  const int32_t number = index < 6 ? index - 2 : (index == 8 ? 4 : index - 5);
  return "<|reserved_special_token_" + std::to_string(number) + "|>";
}

}  // namespace flexq
