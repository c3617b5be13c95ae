#include "text/utf8.h"

#include <doctest/doctest.h>

#include <string>

namespace flexq {
namespace {

// The definition, by arithmetic on the code point: the length of the character or 0.
int reference_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[i])); };
  const uint32_t lead = byte(0);
  const int n_bytes = lead < 0x80             ? 1
                      : (lead & 0xE0) == 0xC0 ? 2
                      : (lead & 0xF0) == 0xE0 ? 3
                      : (lead & 0xF8) == 0xF0 ? 4
                                              : 0;
  if (n_bytes <= 1) return n_bytes;
  if (text.size() < static_cast<size_t>(n_bytes)) return 0;
  uint32_t code_point = lead & (0x7Fu >> n_bytes);
  for (size_t i = 1; i < static_cast<size_t>(n_bytes); ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code_point = code_point << 6 | (byte(i) & 0x3F);
  }
  const uint32_t smallest = n_bytes == 2 ? 0x80 : n_bytes == 3 ? 0x800 : 0x10000;
  const bool surrogate = code_point >= 0xD800 && code_point < 0xE000;
  return code_point >= smallest && code_point <= 0x10FFFF && !surrogate ? n_bytes : 0;
}

// Byte values on both sides of every boundary of the encoding.
constexpr uint8_t kInteresting[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                    0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
                                    0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFF};

bool can_be_completed(std::string text) {
  if (reference_length(text) != 0) return false;
  if (text.size() == 4) return false;
  for (const uint8_t next : kInteresting) {
    const std::string longer = text + static_cast<char>(next);
    if (reference_length(longer) == static_cast<int>(longer.size()) || can_be_completed(longer))
      return true;
  }
  return false;
}

}  // namespace

TEST_CASE("characters, beginnings of characters and invalid bytes are told apart") {
  std::string text;
  for (const uint8_t a : kInteresting) {
    for (const uint8_t b : kInteresting) {
      for (const uint8_t c : kInteresting) {
        text = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c)};
        for (size_t n_bytes = 1; n_bytes <= 3; ++n_bytes) {
          const std::string begin = text.substr(0, n_bytes);
          REQUIRE(valid_character_bytes(begin) == reference_length(begin));
          REQUIRE(is_incomplete_character(begin) == can_be_completed(begin));
        }
        for (const uint8_t d : kInteresting) {
          const std::string four = text + static_cast<char>(d);
          REQUIRE(valid_character_bytes(four) == reference_length(four));
          REQUIRE(!is_incomplete_character(four));
        }
      }
    }
  }
  CHECK(valid_character_bytes("") == 0);
  CHECK(!is_incomplete_character(""));
}

TEST_CASE("validity and unfinished tails of whole texts") {
  CHECK(is_valid_utf8(""));
  CHECK(is_valid_utf8("a\xC3\xA9\xE2\x96\x81\xF0\x9F\xA6\x99"));
  CHECK(!is_valid_utf8("a\xC3"));
  CHECK(!is_valid_utf8("\xED\xA0\x80"));
  CHECK(incomplete_tail_bytes("") == 0);
  CHECK(incomplete_tail_bytes("abc") == 0);
  CHECK(incomplete_tail_bytes("ab\xC3") == 1);
  CHECK(incomplete_tail_bytes("a\xE2\x96") == 2);
  CHECK(incomplete_tail_bytes("\xF0\x9F\xA6") == 3);
  CHECK(incomplete_tail_bytes("\xF0\x9F\xA6\x99") == 0);
  CHECK(incomplete_tail_bytes("\xE2\x96\xE2") == 1);
  CHECK(incomplete_tail_bytes("\xFF\xFF") == 0);
}

}  // namespace flexq
