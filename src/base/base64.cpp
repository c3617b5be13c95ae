#include "base/base64.h"

#include <cstdint>

namespace flexq {
namespace {

// The six bits of a character, or -1.
int bits_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

}  // namespace

bool decode_base64(std::string_view text, std::string& out) {
  if (text.size() % 4 != 0) return false;
  size_t n_padding = 0;
  while (n_padding < 2 && text.size() > n_padding && text[text.size() - 1 - n_padding] == '=')
    ++n_padding;
  const std::string_view digits = text.substr(0, text.size() - n_padding);
  uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : digits) {
    const int value = bits_of(c);
    if (value < 0) return false;
    bits = (bits << 6 | static_cast<uint32_t>(value)) & 0xFFFFu;
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    out.push_back(static_cast<char>(bits >> n_bits));
  }
  return (bits & ((1u << n_bits) - 1)) == 0;
}

}  // namespace flexq
