#include "support/synthetic_byte_level.h"

#include <algorithm>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

namespace flexq::test {
namespace {

constexpr char kSplitPattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

bool is_printable(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// The tokens by rank. Every merged one is an earlier one and a byte.
std::vector<std::string> ranked_tokens(int32_t n_vocab) {
  if (n_vocab < kMinByteLevelVocab) throw std::runtime_error("a vocabulary without bytes");
  std::vector<std::string> tokens;
  for (const bool printable : {true, false})
    for (unsigned byte = 0; byte < 256; ++byte)
      if (is_printable(byte) == printable) tokens.emplace_back(1, static_cast<char>(byte));
  const auto n_tokens = static_cast<size_t>(n_vocab - 256);
  // What words alone would not give: runs of spaces and line breaks, digits, parts of characters.
  for (const char* token : {"  ", "    ", "\n\n", "\r\n", " \n", "12", "123", "'s", "\xE6\x97",
                            "\xE6\x97\xA5", "\xF0\x9F", "\xF0\x9F\x98", "\xEF\xBF", "\xEF\xBF\xBD"})
    if (tokens.size() < n_tokens) tokens.emplace_back(token);
  const std::string letters = "etaoinshrdlucmfwypvbgk";
  std::deque<std::string> parents = {" "};
  for (const char letter : letters)
    parents.emplace_back(1, letter);
  while (tokens.size() < n_tokens) {
    for (const char letter : letters) {
      const std::string token = parents.front() + letter;
      if (tokens.size() < n_tokens) tokens.push_back(token);
      parents.push_back(token);
    }
    parents.pop_front();
  }
  return tokens;
}

std::string base64(const std::string& bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    unsigned bits = 0;
    for (size_t k = i; k < i + 3; ++k)
      bits = bits << 8 | (k < bytes.size() ? static_cast<unsigned char>(bytes[k]) : 0u);
    for (size_t k = 0; k < 4; ++k)
      text += i + k <= bytes.size() ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

// A token in GPT-2's alphabet of printable characters, as UTF-8.
std::string spelled(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    unsigned character = static_cast<unsigned char>(c);
    if (!is_printable(character)) {
      unsigned n_before = 0;
      for (unsigned byte = 0; byte < character; ++byte)
        n_before += !is_printable(byte);
      character = 0x100 + n_before;
    }
    if (character < 0x80) {
      text += static_cast<char>(character);
    } else {
      text += static_cast<char>(0xC0 | character >> 6);
      text += static_cast<char>(0x80 | (character & 0x3F));
    }
  }
  return text;
}

std::string special_token(int index) {
  switch (index) {
    case 0:
      return "<|begin_of_text|>";
    case 1:
      return "<|end_of_text|>";
    case 6:
      return "<|start_header_id|>";
    case 7:
      return "<|end_header_id|>";
    case 9:
      return "<|eot_id|>";
    default:
      break;
  }
  const int number = index < 6 ? index - 2 : (index == 8 ? 4 : index - 5);
  return "<|reserved_special_token_" + std::to_string(number) + "|>";
}

}  // namespace

std::string synthetic_tiktoken_model(int32_t n_vocab) {
  std::string file;
  int rank = 0;
  for (const std::string& token : ranked_tokens(n_vocab))
    file += base64(token) + " " + std::to_string(rank++) + "\n";
  return file;
}

std::string synthetic_tokenizer_json(int32_t n_vocab) {
  using Json = nlohmann::ordered_json;
  const std::vector<std::string> tokens = ranked_tokens(n_vocab);
  std::map<std::string, size_t> ranks;
  Json vocabulary = Json::object();
  for (const std::string& token : tokens) {
    const size_t rank = ranks.size();
    ranks[token] = rank;
    vocabulary[spelled(token)] = rank;
  }
  Json merges = Json::array();
  for (const std::string& token : tokens)
    for (size_t n = 1; n < token.size(); ++n)
      if (ranks.count(token.substr(0, n)) != 0 && ranks.count(token.substr(n)) != 0)
        merges.push_back(spelled(token.substr(0, n)) + " " + spelled(token.substr(n)));
  Json added = Json::array();
  for (int i = 0; i < 256; ++i)
    added.push_back({{"id", tokens.size() + static_cast<size_t>(i)},
                     {"content", special_token(i)},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", kSplitPattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", false}};
  const Json begin = {{"SpecialToken", {{"id", "<|begin_of_text|>"}, {"type_id", 0}}}};
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json file = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "Sequence"}, {"pretokenizers", Json::array({split, byte_level})}}},
      {"post_processor", {{"type", "TemplateProcessing"}, {"single", Json::array({begin, text})}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", true},
        {"vocab", vocabulary},
        {"merges", merges}}}};
  return file.dump();
}

}  // namespace flexq::test
