// UTF-8 as the Unicode standard defines it: no overlong forms, no surrogates, at most U+10FFFF.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flexq {

// U+FFFD, which stands for every byte that belongs to no valid character.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// Bytes of the valid character that `text` begins with: 1 to 4, or 0 when it begins with none
// (empty text included).
int valid_character_bytes(std::string_view text);

// Whether `text` is a proper, non-empty beginning of some valid character: more bytes could
// still complete it.
bool is_incomplete_character(std::string_view text);

bool is_valid_utf8(std::string_view text);

// `text` with every byte that belongs to no valid character replaced by U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

// Bytes at the end of `text` that begin a character without completing it: 0 to 3.
int incomplete_tail_bytes(std::string_view text);

}  // namespace flexq
