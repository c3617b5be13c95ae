#include "text/json_automaton.h"

#include <algorithm>
#include <cstring>

#include "text/utf8.h"

namespace flexq {
namespace {

// Each ends in a zero.
constexpr char kLiterals[] = "true\0false\0null";
constexpr uint8_t kTrue = 0, kFalse = 5, kNull = 11;

bool is_blank(uint8_t byte) {
  return byte == ' ' || byte == '\t';
}

bool is_line_break(uint8_t byte) {
  return byte == '\n' || byte == '\r';
}

bool is_digit(uint8_t byte) {
  return byte >= '0' && byte <= '9';
}

bool is_hex_digit(uint8_t byte) {
  return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

int32_t bytes_of_character(char lead) {
  const auto byte = static_cast<uint8_t>(lead);
  return byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

}  // namespace

bool JsonAutomaton::is_string_content(std::string_view bytes) {
  JsonAutomaton automaton;
  automaton.mode_ = Mode::kString;
  for (const char byte : bytes) {
    if (!automaton.accept(static_cast<uint8_t>(byte))) return false;
    if (automaton.mode_ == Mode::kAfterValue) return false;
  }
  return automaton.in_string();
}

bool JsonAutomaton::enter(Mode mode) {
  mode_ = mode;
  n_line_breaks_ = 0;
  n_blanks_ = 0;
  return true;
}

bool JsonAutomaton::space(uint8_t byte) {
  if (is_line_break(byte)) {
    if (n_blanks_ > 0 || n_line_breaks_ == kMaxLineBreaks) return false;
    ++n_line_breaks_;
    return true;
  }
  const int32_t indentation = std::clamp(kBlanksPerLevel * depth_, 1, kMaxBlanks);
  if (!is_blank(byte) || n_blanks_ >= (n_line_breaks_ > 0 ? indentation : 1)) return false;
  ++n_blanks_;
  return true;
}

bool JsonAutomaton::open(bool is_object) {
  if (depth_ == kMaxDepth) return false;
  if (is_object) objects_ |= uint64_t{1} << depth_;
  ++depth_;
  return enter(is_object ? Mode::kFirstKey : Mode::kFirstElement);
}

bool JsonAutomaton::close(bool is_object) {
  if (in_object() != is_object) return false;
  --depth_;
  objects_ &= ~(uint64_t{1} << depth_);
  return enter(depth_ == 0 ? Mode::kComplete : Mode::kAfterValue);
}

bool JsonAutomaton::begin_string(bool is_key) {
  is_key_ = is_key;
  return enter(Mode::kString);
}

bool JsonAutomaton::begin_value(uint8_t byte) {
  switch (byte) {
    case '{':
      return open(true);
    case '[':
      return open(false);
    case '"':
      return begin_string(false);
    case 't':
      count_ = kTrue + 1;
      return enter(Mode::kLiteral);
    case 'f':
      count_ = kFalse + 1;
      return enter(Mode::kLiteral);
    case 'n':
      count_ = kNull + 1;
      return enter(Mode::kLiteral);
    case '-':
      return enter(Mode::kMinus);
    default:
      break;
  }
  if (!is_digit(byte)) return false;
  count_ = 1;
  return enter(byte == '0' ? Mode::kZero : Mode::kInteger);
}

bool JsonAutomaton::after_value(uint8_t byte) {
  if (is_blank(byte) || is_line_break(byte)) {
    if (mode_ != Mode::kAfterValue) enter(Mode::kAfterValue);  // ends a number
    return space(byte);
  }
  if (byte == ',') return enter(in_object() ? Mode::kKey : Mode::kValue);
  return (byte == '}' || byte == ']') && close(byte == '}');
}

bool JsonAutomaton::string_byte(uint8_t byte) {
  if (byte == '"') return enter(is_key_ ? Mode::kColon : Mode::kAfterValue);
  if (byte == '\\') return enter(Mode::kEscape);
  if (byte >= 0x20 && byte < 0x80) return true;
  const char character = static_cast<char>(byte);
  if (!is_incomplete_character({&character, 1})) return false;  // control bytes are whole
  character_[0] = character;
  count_ = 1;
  return enter(Mode::kCharacter);
}

bool JsonAutomaton::character_byte(uint8_t byte) {
  char bytes[4] = {character_[0], character_[1], character_[2], 0};
  bytes[count_] = static_cast<char>(byte);
  const std::string_view begun(bytes, count_ + size_t{1});
  if (is_incomplete_character(begun)) {
    character_[count_++] = static_cast<char>(byte);
    return true;
  }
  if (valid_character_bytes(begun) != count_ + 1) return false;
  character_ = {};
  return enter(Mode::kString);
}

bool JsonAutomaton::escape_byte(uint8_t byte) {
  if (byte == 'u') {
    count_ = 4;
    return enter(Mode::kHex);
  }
  return byte != 0 && std::strchr("\"\\/bfnrt", byte) != nullptr && enter(Mode::kString);
}

bool JsonAutomaton::hex_byte(uint8_t byte) {
  if (!is_hex_digit(byte)) return false;
  if (mode_ == Mode::kHexAfterD && (byte < '0' || byte > '7')) return false;
  const bool is_first = count_ == 4;
  --count_;
  if (count_ == 0) return enter(Mode::kString);
  return enter(is_first && (byte == 'd' || byte == 'D') ? Mode::kHexAfterD : Mode::kHex);
}

bool JsonAutomaton::number_byte(uint8_t byte) {
  const bool has_room = count_ < kMaxNumberDigits;
  switch (mode_) {
    case Mode::kMinus:
      return is_digit(byte) && begin_value(byte);
    case Mode::kPoint:
    case Mode::kFraction:
      if (is_digit(byte)) return has_room && (++count_, enter(Mode::kFraction));
      if (mode_ == Mode::kPoint) return false;
      break;
    case Mode::kInteger:
      if (is_digit(byte)) return has_room && (++count_, true);
      [[fallthrough]];
    case Mode::kZero:
      if (byte == '.') return has_room && enter(Mode::kPoint);
      break;
    case Mode::kExponent:
      if (byte == '+' || byte == '-') return enter(Mode::kExponentSign);
      [[fallthrough]];
    case Mode::kExponentSign:
      count_ = is_digit(byte) ? 1 : count_;
      return is_digit(byte) && enter(Mode::kExponentDigits);
    default:  // kExponentDigits
      if (is_digit(byte)) return count_ < kMaxExponentDigits && (++count_, true);
      return after_value(byte);
  }
  if (byte == 'e' || byte == 'E') return enter(Mode::kExponent);
  return after_value(byte);
}

bool JsonAutomaton::accept(uint8_t byte) {
  switch (mode_) {
    case Mode::kStart:
      return space(byte) || (byte == '{' && open(true));
    case Mode::kFirstKey:
      if (byte == '}') return close(true);
      [[fallthrough]];
    case Mode::kKey:
      return space(byte) || (byte == '"' && begin_string(true));
    case Mode::kColon:
      return space(byte) || (byte == ':' && enter(Mode::kValue));
    case Mode::kFirstElement:
      if (byte == ']') return close(false);
      [[fallthrough]];
    case Mode::kValue:
      return space(byte) || begin_value(byte);
    case Mode::kAfterValue:
      return after_value(byte);
    case Mode::kString:
      return string_byte(byte);
    case Mode::kCharacter:
      return character_byte(byte);
    case Mode::kEscape:
      return escape_byte(byte);
    case Mode::kHex:
    case Mode::kHexAfterD:
      return hex_byte(byte);
    case Mode::kLiteral:
      if (static_cast<uint8_t>(kLiterals[count_]) != byte) return false;
      ++count_;
      return kLiterals[count_] != '\0' || enter(Mode::kAfterValue);
    case Mode::kComplete:
      return false;
    default:
      return number_byte(byte);
  }
}

int32_t JsonAutomaton::closing_bytes() const {
  const int32_t closers = depth_;
  const int32_t end_of_string = (is_key_ ? 3 : 1) + closers;  // ":0 or "
  switch (mode_) {
    case Mode::kStart:
      return 2;  // {}
    case Mode::kKey:
      return 4 + closers;  // "":0
    case Mode::kColon:
      return 2 + closers;  // :0
    case Mode::kValue:
    case Mode::kMinus:
    case Mode::kPoint:
    case Mode::kExponent:
    case Mode::kExponentSign:
      return 1 + closers;  // 0
    case Mode::kString:
      return end_of_string;
    case Mode::kCharacter:
      return bytes_of_character(character_[0]) - count_ + end_of_string;
    case Mode::kEscape:
      return 1 + end_of_string;
    case Mode::kHex:
    case Mode::kHexAfterD:
      return count_ + end_of_string;
    case Mode::kLiteral:
      return static_cast<int32_t>(std::strlen(kLiterals + count_)) + closers;
    default:
      return closers;
  }
}

}  // namespace flexq
