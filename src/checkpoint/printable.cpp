#include "checkpoint/printable.h"

#include <cstdint>

namespace flexq {

std::string printable(std::string_view text) {
  constexpr size_t kMaxBytes = 120;
  const bool cut = text.size() > kMaxBytes;
  size_t end = cut ? kMaxBytes : text.size();
  // Bytes 10xxxxxx continue a UTF-8 character: step back to its first byte.
  while (cut && end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0u) == 0x80u)
    --end;
  std::string result(text.substr(0, end));
  for (char& c : result) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f) c = '?';
  }
  if (cut) result += "...";
  return result;
}

}  // namespace flexq
