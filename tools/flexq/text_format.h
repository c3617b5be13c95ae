// Text for people: units, one-line strings, tables.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flexq_tool {

// A number with `digits` digits after the point.
std::string fixed(double value, int digits);

// A number with at most so many significant digits: "6.05445", "1e-05".
std::string short_number(double value, int n_digits = 6);

// "17 bytes", "1.2 MB", "3.86 GB": powers of 1000.
std::string format_bytes(int64_t bytes);

// The text with line breaks, control characters and bytes that are not UTF-8 written as \n, \xNN:
// one line that no terminal takes for commands.
std::string one_line(std::string_view text);

// Columns of text; the first is aligned left, all others right.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  // Every line ends with '\n'.
  std::string text() const;
  // The same in Markdown.
  std::string markdown() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace flexq_tool
