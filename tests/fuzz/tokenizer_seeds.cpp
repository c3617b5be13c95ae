#include <cstring>
#include <span>
#include <stdexcept>

#include "fuzz/seeds.h"
#include "fuzz/small_tokenizers.h"
#include "text/sentencepiece_model.h"
#include "text/tiktoken_model.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_segment.h"

namespace flexq::test {
namespace {

std::string section_of(const Result<TokenizerData>& data) {
  if (!data.ok()) throw std::runtime_error(data.status().message());
  const auto bytes = serialize_tokenizer(*data);
  if (!bytes.ok()) throw std::runtime_error(bytes.status().message());
  return {bytes->begin(), bytes->end()};
}

std::string with_word(std::string bytes, size_t at, uint32_t value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("no " + from);
  return text.replace(at, from.size(), to);
}

void add_file_seeds(Seeds& seeds) {
  const std::string model = small_sentencepiece_model();
  seeds["sentencepiece/valid_model"] = model;
  const std::string negative = std::string(9, '\xff') + "\x01";  // the length -1 as a varint
  seeds["sentencepiece/refused_negative_length"] = "\x0a" + negative + "abc";
  seeds["sentencepiece/refused_negative_piece"] = "\x0a\x0e\x0a" + negative + "abc";
  seeds["sentencepiece/refused_length_31_bits"] = model + "\x12\xff\xff\xff\xff\x07";
  seeds["sentencepiece/refused_endless_varint"] = "\x0a" + std::string(11, '\xff');
  seeds["sentencepiece/refused_groups"] = std::string(1000, '\x0b');
  seeds["sentencepiece/refused_field_zero"] = std::string(4, '\0') + model;

  const std::string ranks = small_tiktoken_model();
  seeds["tiktoken/valid_ranks"] = ranks;
  seeds["tiktoken/refused_rank_huge"] = replaced(ranks, " 100\n", " 4294967396\n");
  seeds["tiktoken/refused_rank_negative"] = replaced(ranks, " 100\n", " -100\n");
  seeds["tiktoken/refused_padding"] = replaced(ranks, "= 100\n", "==== 100\n");
  seeds["tiktoken/refused_no_rank"] = "IQ==\nIg== 1\n";

  const std::string byte_level = small_byte_level_json();
  const std::string characters = small_character_json();
  seeds["tokenizer_json/valid_byte_level"] = byte_level;
  seeds["tokenizer_json/valid_characters"] = characters;
  seeds["tokenizer_json/refused_id_huge"] =
      replaced(characters, "\"he\":", "\"he\":18446744073709551615,\"hx\":");
  seeds["tokenizer_json/refused_id_negative"] =
      replaced(characters, "\"he\":", "\"he\":-1,\"hx\":");
  seeds["tokenizer_json/refused_merge"] = replaced(characters, "[\"h\",\"e\"]", "[\"h\",\"zz\"]");
  seeds["tokenizer_json/refused_nested"] = std::string(5000, '[');
  // Patterns that take exponential time or much memory, or that are none.
  const auto with_pattern = [&](const std::string& pattern) {
    const std::string key = "\"Regex\":\"";
    const size_t begin = byte_level.find(key) + key.size();
    const size_t end = byte_level.find("\"},\"behavior\"", begin);
    return byte_level.substr(0, begin) + pattern + byte_level.substr(end);
  };
  seeds["tokenizer_json/pattern_backtracking"] = with_pattern("(a+)+(a+)+$|(x|x)*y");
  seeds["tokenizer_json/pattern_recursion"] =
      with_pattern("((((a{1,60}){1,60}){1,60}){1,60})|(?R)?a|(\\\\((?:[^()]|(?1))*\\\\))");
  seeds["tokenizer_json/refused_pattern"] = with_pattern("(((((");
}

void add_section_seeds(Seeds& seeds) {
  const std::string model = small_sentencepiece_model();
  const std::string pieces = section_of(read_sentencepiece_model(
      {reinterpret_cast<const uint8_t*>(model.data()), model.size()}, "seed"));
  seeds["tokenizer_section/valid_sentencepiece"] = pieces;
  seeds["tokenizer_section/valid_ranks"] =
      section_of(read_tiktoken_model(small_tiktoken_model(), {}, "seed"));
  seeds["tokenizer_section/valid_byte_level"] =
      section_of(read_tokenizer_json(small_byte_level_json(), "seed"));
  seeds["tokenizer_section/valid_characters"] =
      section_of(read_tokenizer_json(small_character_json(), "seed"));
  const auto refused = [&](const std::string& name, const std::string& bytes) {
    seeds["tokenizer_section/refused_" + name] = bytes;
  };
  const std::string head = pieces.substr(0, 40);
  refused("vocabulary_huge", with_word(head, 12, 0xffffffff));
  refused("vocabulary_wraps", with_word(head, 12, 0x40000000));
  refused("vocabulary_beyond_file", with_word(head, 12, 1 << 20));
  refused("bytes_huge", with_word(pieces, 36, 0x7fffffff));
  refused("sum_wraps", with_word(with_word(pieces, 32, 0x80000000), 36, 0x80000000));
  refused("id_outside", with_word(pieces, 16, 0x7fffffff));
  refused("id_negative", with_word(pieces, 24, 0x80000000));
  refused("flags", with_word(pieces, 8, 0xffffffff));
  std::string length = pieces;
  uint32_t n_vocab = 0;
  std::memcpy(&n_vocab, pieces.data() + 12, sizeof n_vocab);
  length.replace(40 + size_t{n_vocab} * 4 + 300, 2, "\xff\xff");
  refused("length_signed", length);
}

void add_text_seeds(Seeds& seeds) {
  const std::pair<const char*, std::string> texts[] = {
      {"plain", "Once upon a time, the  rate 12345\r\n\r\n isn't 67% <s> </s> <|eot_id|>"},
      {"letters", std::string(600, 'a')},
      {"spaces", std::string(300, ' ') + "\n\t" + std::string(100, ' ')},
      {"emoji",
       "\xF0\x9F\xA6\x99\xF0\x9F\x98\x80\xE2\x80\x8D\xEF\xB8\x8F \xE6\x97\xA5\xE6\x9C\xAC"},
      {"invalid", "\xFF\xC3\xE2\x96\xF0\x9F\x98 \xED\xA0\x80 \xC0\xAF \xF4\x90\x80\x80"},
      {"space_symbols", "\xE2\x96\x81\xE2\x96\x81 a\xE2\x96\x81"},
  };
  for (const auto& [name, text] : texts)
    for (const int flags : {0x04, 0x1d, 0x2e, 0x37})
      seeds["text/valid_" + std::string(name) + "_" + std::to_string(flags & 3)] =
          std::string(1, static_cast<char>(flags)) + "\x05" + text;
}

}  // namespace

void add_tokenizer_seeds(Seeds& seeds) {
  add_file_seeds(seeds);
  add_section_seeds(seeds);
  add_text_seeds(seeds);
}

}  // namespace flexq::test
