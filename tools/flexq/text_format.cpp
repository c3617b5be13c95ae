#include "text_format.h"

#include <algorithm>
#include <cstdio>

namespace flexq_tool {
namespace {

bool is_continuation(std::string_view text, size_t at) {
  return at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80;
}

// Length of the printable UTF-8 character at the start of `text`; 0 where there is none. Overlong
// forms, surrogates and C1 control characters are not characters.
size_t printable_character_bytes(std::string_view text) {
  const uint8_t lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7F ? 1 : 0;
  const size_t n_bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  for (size_t i = 1; i < n_bytes; ++i) {
    if (!is_continuation(text, i)) return 0;
  }
  const uint8_t second = static_cast<uint8_t>(text[1]);
  if (lead == 0xC2 && second < 0xA0) return 0;
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second >= 0xA0)) return 0;
  if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second >= 0x90)) return 0;
  return n_bytes;
}

// Characters, which is what the columns of a terminal nearly are.
size_t display_width(std::string_view text) {
  size_t width = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!is_continuation(text, i)) ++width;
  }
  return width;
}

std::string formatted(const char* format, int digits, double value) {
  char buffer[64];
  const int n_bytes = std::snprintf(buffer, sizeof buffer, format, digits, value);
  return std::string(buffer, static_cast<size_t>(std::clamp<int>(n_bytes, 0, sizeof buffer - 1)));
}

}  // namespace

std::string fixed(double value, int digits) {
  return formatted("%.*f", digits, value);
}

std::string short_number(double value, int n_digits) {
  return formatted("%.*g", n_digits, value);
}

std::string format_bytes(int64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " bytes";
  const char* const units[] = {"kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  return fixed(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0) + " " + units[unit];
}

std::string one_line(std::string_view text) {
  std::string line;
  while (!text.empty()) {
    const size_t n_bytes = printable_character_bytes(text);
    if (n_bytes > 0) {
      line += text.substr(0, n_bytes);
    } else if (text[0] == '\n') {
      line += "\\n";
    } else {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02X", static_cast<uint8_t>(text[0]));
      line += escaped;
    }
    text.remove_prefix(std::max<size_t>(n_bytes, 1));
  }
  return line;
}

std::string Table::markdown() const {
  std::string text;
  for (size_t i = 0; i < rows_.size(); ++i) {
    text += "|";
    for (const std::string& cell : rows_[i])
      text += " " + cell + " |";
    text += "\n";
    if (i > 0) continue;
    text += "|";
    for (size_t column = 0; column < rows_[i].size(); ++column)
      text += column == 0 ? "---|" : "---:|";
    text += "\n";
  }
  return text;
}

std::string Table::text() const {
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], display_width(row[i]));
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - display_width(row[i]), ' ');
      if (i > 0) line += "  ";
      line += i == 0 ? row[i] + padding : padding + row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace flexq_tool
