#include "text/utf8.h"

namespace flexq {
namespace {

bool is_trail(uint8_t byte) {
  return (byte & 0xC0) == 0x80;
}

// Length that a leading byte announces, or 0 for a byte that begins no character.
int announced_bytes(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;  // trail bytes, and C0 and C1, which begin overlong forms only
  if (lead < 0xE0) return 2;
  if (lead < 0xF0) return 3;
  if (lead < 0xF5) return 4;  // F5 and above would pass U+10FFFF
  return 0;
}

// Whether `second` may follow `lead`. The second byte alone decides about overlong forms,
// surrogates and the upper end (Unicode standard, table 3-7).
bool is_second(uint8_t lead, uint8_t second) {
  if (!is_trail(second)) return false;
  switch (lead) {
    case 0xE0:
      return second >= 0xA0;
    case 0xED:
      return second < 0xA0;
    case 0xF0:
      return second >= 0x90;
    case 0xF4:
      return second < 0x90;
    default:
      return true;
  }
}

// How many bytes at the beginning of `text` agree with one character of `announced` bytes.
int agreeing_bytes(std::string_view text, int announced) {
  const int available = static_cast<int>(text.size() < 4 ? text.size() : 4);
  int n = 1;
  for (; n < announced && n < available; ++n) {
    const uint8_t byte = static_cast<uint8_t>(text[static_cast<size_t>(n)]);
    if (n == 1 ? !is_second(static_cast<uint8_t>(text[0]), byte) : !is_trail(byte)) break;
  }
  return n;
}

}  // namespace

int valid_character_bytes(std::string_view text) {
  if (text.empty()) return 0;
  const int announced = announced_bytes(static_cast<uint8_t>(text[0]));
  if (announced <= 1) return announced;
  return agreeing_bytes(text, announced) == announced ? announced : 0;
}

bool is_incomplete_character(std::string_view text) {
  if (text.empty() || text.size() > 3) return false;
  const int announced = announced_bytes(static_cast<uint8_t>(text[0]));
  const int n_bytes = static_cast<int>(text.size());
  return n_bytes < announced && agreeing_bytes(text, announced) == n_bytes;
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const int n_bytes = valid_character_bytes(text);
    if (n_bytes == 0) return false;
    text.remove_prefix(static_cast<size_t>(n_bytes));
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  while (!text.empty()) {
    const int n_bytes = valid_character_bytes(text);
    const size_t n_taken = n_bytes == 0 ? 1 : static_cast<size_t>(n_bytes);
    out.append(n_bytes == 0 ? kReplacementCharacter : text.substr(0, n_taken));
    text.remove_prefix(n_taken);
  }
  return out;
}

int incomplete_tail_bytes(std::string_view text) {
  for (int n_bytes = 3; n_bytes >= 1; --n_bytes) {
    if (text.size() < static_cast<size_t>(n_bytes)) continue;
    if (is_incomplete_character(text.substr(text.size() - static_cast<size_t>(n_bytes))))
      return n_bytes;
  }
  return 0;
}

}  // namespace flexq
