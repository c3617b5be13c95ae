// How messages spell a piece, which may be any bytes.
#pragma once

#include <array>
#include <cstdio>
#include <string_view>

#include "text/utf8.h"

namespace flexq {

// "'▁the'" for a printable piece: quoted, control characters and quotes as \xNN, "..." for what
// follows the first 40 bytes. Allocates nothing.
class PieceName {
 public:
  explicit PieceName(std::string_view piece) {
    std::string_view shown = piece.substr(0, kMaxBytes);
    if (shown.size() < piece.size())
      shown.remove_suffix(static_cast<size_t>(incomplete_tail_bytes(shown)));
    size_t n = 0;
    text_[n++] = '\'';
    for (const char c : shown) {
      const unsigned char byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte == 0x7F || byte == '\'' || byte == '\\')
        n += static_cast<size_t>(std::snprintf(&text_[n], text_.size() - n, "\\x%02X", byte));
      else
        text_[n++] = c;
    }
    std::snprintf(&text_[n], text_.size() - n, shown.size() < piece.size() ? "...'" : "'");
  }
  const char* c_str() const { return text_.data(); }

 private:
  static constexpr size_t kMaxBytes = 40;
  std::array<char, 4 * kMaxBytes + 8> text_{};  // four characters per escaped byte
};

}  // namespace flexq
