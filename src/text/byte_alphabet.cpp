#include "text/byte_alphabet.h"

#include <array>
#include <cstdint>

namespace flexq {
namespace {

constexpr size_t kNumCharacters = 0x100 + 68;  // 68 bytes are not printable

constexpr bool is_printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// The byte of each character of the alphabet; -1 for characters that are not in it.
constexpr std::array<int16_t, kNumCharacters> make_byte_of_character() {
  std::array<int16_t, kNumCharacters> table{};
  for (int16_t& byte : table)
    byte = -1;
  size_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte)
    table[is_printable(byte) ? static_cast<size_t>(byte) : next++] = static_cast<int16_t>(byte);
  return table;
}
constexpr std::array<int16_t, kNumCharacters> kByteOfCharacter = make_byte_of_character();

}  // namespace

bool bytes_of_spelling(std::string_view spelled, std::string& bytes) {
  while (!spelled.empty()) {
    // All characters of the alphabet have one or two bytes of UTF-8.
    const uint32_t lead = static_cast<uint8_t>(spelled[0]);
    uint32_t character = lead;
    size_t n_bytes = 1;
    if (lead >= 0x80) {
      if ((lead & 0xE0) != 0xC0 || spelled.size() < 2) return false;
      character = (lead & 0x1F) << 6 | (static_cast<uint8_t>(spelled[1]) & 0x3Fu);
      n_bytes = 2;
    }
    if (character >= kNumCharacters || kByteOfCharacter[character] < 0) return false;
    bytes.push_back(static_cast<char>(kByteOfCharacter[character]));
    spelled.remove_prefix(n_bytes);
  }
  return true;
}

}  // namespace flexq
