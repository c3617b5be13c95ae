// One JSON object (RFC 8259), byte by byte: what may follow, and how soon it can end.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace flexq {

// Accepts the bytes of one object, with whitespace in front and none behind. Every parser takes
// what it has accepted, because it is stricter than the RFC where parsers differ: strings are valid
// UTF-8, an escape never names a surrogate, containers nest kMaxDepth deep at most, and a number
// has few enough digits to be finite as a double. That two keys of an object differ is not checked.
// A small value, meant to be copied.
class JsonAutomaton {
 public:
  static constexpr int32_t kMaxDepth = 64;
  // Integer and fraction together. With the exponent's the largest number is under 10^163.
  static constexpr int32_t kMaxNumberDigits = 64;
  static constexpr int32_t kMaxExponentDigits = 2;
  // Whitespace is one blank, or line breaks and then the indentation of a line. Without a limit,
  // models that do not know how to go on write nothing else.
  static constexpr int32_t kMaxLineBreaks = 2;
  static constexpr int32_t kBlanksPerLevel = 4;  // of containers, and one at least
  static constexpr int32_t kMaxBlanks = 60;

  // Whoever can append any of these one by one can always end the object in closing_bytes() steps,
  // but for a character that was begun: that takes kClosingTrailBytes.
  static constexpr std::string_view kClosingBytes = "{}[]\":0aelrsu";
  static constexpr std::string_view kClosingTrailBytes = "\x80\x90\xA0";

  // Whether the object goes on with `byte`; if not, nothing changes.
  bool accept(uint8_t byte);

  // The object's closing brace was accepted; nothing is accepted after it.
  bool complete() const { return mode_ == Mode::kComplete; }

  // The least number of bytes that complete the object from here.
  int32_t closing_bytes() const;

  // Between two characters of a string.
  bool in_string() const { return mode_ == Mode::kString; }

  // Whether `bytes` are whole characters and escapes: in_string(), they change nothing.
  static bool is_string_content(std::string_view bytes);

  bool operator==(const JsonAutomaton&) const = default;

 private:
  enum class Mode : uint8_t {
    kStart,           // before the object
    kFirstKey,        // behind {
    kKey,             // behind a comma in an object
    kColon,           // behind a key
    kValue,           // behind a colon, or a comma in an array
    kFirstElement,    // behind [
    kAfterValue,      // behind a value: comma or end
    kString,          // see in_string()
    kCharacter,       // within a character of several bytes
    kEscape,          // behind a backslash
    kHex,             // count_ digits of \u are still to come
    kHexAfterD,       // behind \uD: 8 to F would make it a surrogate
    kLiteral,         // kLiterals[count_] comes next
    kMinus,           // behind -
    kZero,            // behind a leading 0
    kInteger,         // the number has count_ digits
    kPoint,           // likewise, behind the point
    kFraction,        // likewise
    kExponent,        // behind e
    kExponentSign,    // behind its sign
    kExponentDigits,  // it has count_ digits
    kComplete,
  };

  bool in_object() const { return (objects_ >> (depth_ - 1) & 1) != 0; }
  bool enter(Mode mode);
  bool space(uint8_t byte);
  bool open(bool is_object);
  bool close(bool is_object);
  bool begin_string(bool is_key);
  bool begin_value(uint8_t byte);
  bool after_value(uint8_t byte);
  bool string_byte(uint8_t byte);
  bool character_byte(uint8_t byte);
  bool escape_byte(uint8_t byte);
  bool hex_byte(uint8_t byte);
  bool number_byte(uint8_t byte);

  uint64_t objects_ = 0;  // bit i: container i, from outside, is an object, not an array
  Mode mode_ = Mode::kStart;
  uint8_t depth_ = 0;
  uint8_t count_ = 0;  // what the mode says
  bool is_key_ = false;
  uint8_t n_line_breaks_ : 2 = 0;    // of the whitespace behind the last other byte
  uint8_t n_blanks_ : 6 = 0;         // likewise: spaces and tabs
  std::array<char, 3> character_{};  // kCharacter: its first count_ bytes; else zeros
};

}  // namespace flexq
