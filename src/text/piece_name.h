// How messages spell a piece, which may be any bytes.
#pragma once

#include <array>
#include <cstdio>
#include <string_view>

namespace flexq {

// "'▁the'" for a printable piece: quoted, control characters and quotes as \xNN, cut after 40
// bytes with "...". Allocates nothing.
class PieceName {
 public:
  explicit PieceName(std::string_view piece) {
    size_t n = 0;
    text_[n++] = '\'';
    for (size_t i = 0; i < piece.size() && i < kMaxBytes; ++i) {
      const unsigned char byte = static_cast<unsigned char>(piece[i]);
      if (byte < 0x20 || byte == 0x7F || byte == '\'' || byte == '\\')
        n += static_cast<size_t>(std::snprintf(&text_[n], text_.size() - n, "\\x%02X", byte));
      else
        text_[n++] = piece[i];
    }
    std::snprintf(&text_[n], text_.size() - n, piece.size() > kMaxBytes ? "...'" : "'");
  }
  const char* c_str() const { return text_.data(); }

 private:
  static constexpr size_t kMaxBytes = 40;
  std::array<char, 4 * kMaxBytes + 8> text_{};  // four characters per escaped byte
};

}  // namespace flexq
