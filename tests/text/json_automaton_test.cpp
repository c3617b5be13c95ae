// JsonAutomaton against nlohmann::json: on random documents, on damaged ones, and on what it says
// about the way to the end.
#include "text/json_automaton.h"

#include <doctest/doctest.h>

#include <optional>
#include <random>
#include <string>

#include "base/json.h"

namespace flexq::test {
namespace {

// The state behind `text`, or nothing if it is refused.
std::optional<JsonAutomaton> after(std::string_view text) {
  JsonAutomaton automaton;
  for (const char byte : text) {
    if (!automaton.accept(static_cast<uint8_t>(byte))) return std::nullopt;
  }
  return automaton;
}

bool accepts(std::string_view text) {
  const auto automaton = after(text);
  return automaton && automaton->complete();
}

bool is_object(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  return json.is_object();
}

// Documents that use all of the grammar.
class RandomDocument {
 public:
  explicit RandomDocument(uint64_t seed) : random_(seed) {}

  std::string make() {
    text_ = one_of({"", " ", "\n", "\n\n\t"});
    object(0);
    return text_;
  }

 private:
  bool chance(int one_in) { return random_() % static_cast<unsigned>(one_in) == 0; }
  size_t below(size_t n) { return random_() % n; }
  template <size_t n>
  const char* one_of(const char* const (&choices)[n]) {
    return choices[below(n)];
  }

  // Within a container, so that a line may be indented.
  void space() { text_ += one_of({"", "", "", " ", "\t", "\n", "\r\n", "\n  \t ", "\n\n "}); }

  void object(int depth) {
    text_ += '{';
    space();
    for (size_t n = below(4), i = 0; i < n; ++i) {
      string();
      space();
      text_ += ':';
      value(depth);
      if (i + 1 < n) {
        text_ += ',';
        space();
      }
    }
    text_ += '}';
  }

  void array(int depth) {
    text_ += '[';
    const size_t n = below(4);
    if (n == 0) space();
    for (size_t i = 0; i < n; ++i) {
      value(depth);
      if (i + 1 < n) text_ += ',';
    }
    text_ += ']';
  }

  void value(int depth) {
    space();
    switch (below(depth < 5 ? 6 : 3)) {
      case 0:
        string();
        break;
      case 1:
        number();
        break;
      case 2:
        text_ += one_of({"true", "false", "null"});
        break;
      case 3:
        array(depth + 1);
        break;
      default:
        object(depth + 1);
    }
    space();
  }

  void digits(size_t most) {
    for (size_t n = 1 + below(most); n > 0; --n)
      text_ += static_cast<char>('0' + below(10));
  }

  void number() {
    if (chance(2)) text_ += '-';
    if (chance(3)) {
      text_ += '0';
    } else {
      text_ += static_cast<char>('1' + below(9));
      if (chance(2)) digits(20);
    }
    if (chance(2)) text_ += '.', digits(10);
    if (chance(2)) text_ += one_of({"e", "E", "e+", "E-"}), digits(2);
  }

  void string() {
    text_ += '"';
    while (!chance(4)) {
      text_ += one_of({"a", " ", "~", "\x7F", "/", "\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n",
                       "\\r", "\\t", "\\u0000", "\\ud7ff", "\\uE000", "\\uFfFf", "\\u00e9"});
      if (chance(2)) {
        text_ += one_of({"\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xE2\x82\xAC", "\xED\x9F\xBF",
                         "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF0\x9F\x98\x80",
                         "\xF4\x8F\xBF\xBF"});
      }
    }
    text_ += '"';
  }

  std::mt19937_64 random_;
  std::string text_;
};

// The reasons for which a valid object may be refused, seen without the automaton.
bool is_beyond_limits(std::string_view text) {
  bool in_string = false;
  int depth = 0, n_digits = 0, n_exponent = 0, n_breaks = 0, n_blanks = 0;
  bool in_exponent = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char byte = text[i];
    if (in_string) {
      if (byte == '"') in_string = false;
      if (byte != '\\') continue;
      ++i;
      if (text[i] != 'u') continue;
      const auto code = static_cast<unsigned>(std::stoul(std::string(text.substr(i + 1, 4)),  //
                                                         nullptr, 16));
      if (code >= 0xD800 && code < 0xE000) return true;
      continue;
    }
    if (byte == '"') in_string = true;
    const bool is_break = byte == '\n' || byte == '\r';
    const bool is_blank = byte == ' ' || byte == '\t';
    if (is_break && (n_blanks > 0 || ++n_breaks > JsonAutomaton::kMaxLineBreaks)) return true;
    if (is_blank && ++n_blanks > (n_breaks == 0 || depth == 0 ? 1 : depth < 15 ? 4 * depth : 60))
      return true;
    if (!is_break && !is_blank) n_breaks = n_blanks = 0;
    if (byte == '{' || byte == '[') ++depth;
    if (byte == '}' || byte == ']') --depth;
    if (depth > JsonAutomaton::kMaxDepth) return true;
    if (byte == 'e' || byte == 'E') in_exponent = true;
    const bool is_digit = byte >= '0' && byte <= '9';
    if (is_digit) ++(in_exponent ? n_exponent : n_digits);
    if (!is_digit && std::string_view("+-.eE").find(byte) == std::string_view::npos) {
      in_exponent = false;
      n_digits = n_exponent = 0;
    }
    if (n_digits > JsonAutomaton::kMaxNumberDigits) return true;
    if (n_exponent > JsonAutomaton::kMaxExponentDigits) return true;
    const std::string_view rest = text.substr(i + 1);
    if (depth == 0 && byte == '}' && !rest.empty()) return true;  // something behind the object
  }
  return false;
}

// Same verdict as the oracle, or a documented reason for another.
void check_verdict(const std::string& text) {
  const bool found = accepts(text);
  const bool expected = is_object(text);
  if (found == expected) return;
  CAPTURE(text);
  REQUIRE_MESSAGE(expected, "accepted what nlohmann::json refuses");
  REQUIRE_MESSAGE(is_beyond_limits(text), "refused a valid object");
}

std::string hex(uint8_t byte) {
  char text[8];
  snprintf(text, sizeof text, "0x%02X", byte);
  return text;
}

// No byte brings the end nearer by more than one, and one that is refused changes nothing.
void check_every_byte(const JsonAutomaton& state) {
  for (int byte = 0; byte < 256; ++byte) {
    JsonAutomaton next = state;
    const bool accepted = next.accept(static_cast<uint8_t>(byte));
    const bool as_it_should =
        accepted ? next.closing_bytes() >= state.closing_bytes() - 1 : next == state;
    if (!as_it_should || (next.closing_bytes() == 0) != next.complete())
      FAIL("byte " << hex(static_cast<uint8_t>(byte)) << ": from " << state.closing_bytes()
                   << " closing bytes to " << next.closing_bytes());
  }
}

// The way to the end with bytes that a vocabulary must have, each of which brings it nearer.
std::string closing_of(JsonAutomaton state) {
  std::string closing;
  while (!state.complete()) {
    const int32_t n_bytes = state.closing_bytes();
    std::string choices(JsonAutomaton::kClosingBytes);
    choices += JsonAutomaton::kClosingTrailBytes;
    bool is_nearer = false;
    for (const char byte : choices) {
      JsonAutomaton next = state;
      if (!next.accept(static_cast<uint8_t>(byte)) || next.closing_bytes() >= n_bytes) continue;
      state = next;
      closing += byte;
      is_nearer = true;
      break;
    }
    if (!is_nearer) FAIL("no way to the end behind " << closing);
  }
  return closing;
}

}  // namespace

TEST_CASE("JSON automaton: random objects are accepted at every cut and can be closed there") {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const std::string text = RandomDocument(seed).make();
    CAPTURE(text);
    REQUIRE(is_object(text));
    REQUIRE(accepts(text));
    for (size_t n_bytes = 0; n_bytes < text.size(); ++n_bytes) {
      const auto state = after(std::string_view(text).substr(0, n_bytes));
      REQUIRE(state);
      REQUIRE_FALSE(state->complete());
      check_every_byte(*state);
      const std::string closing = closing_of(*state);
      REQUIRE(static_cast<int32_t>(closing.size()) == state->closing_bytes());
      const std::string closed = text.substr(0, n_bytes) + closing;
      REQUIRE_MESSAGE(is_object(closed), closed);
      REQUIRE(accepts(closed));
    }
  }
}

TEST_CASE("JSON automaton: every change of one byte gets the verdict of nlohmann::json") {
  int n_valid = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const std::string text = RandomDocument(1000 + seed).make();
    if (text.size() > 120) continue;
    for (size_t i = 0; i < text.size(); ++i) {
      for (int byte = 0; byte < 256; ++byte) {
        std::string changed = text;
        changed[i] = static_cast<char>(byte);
        check_verdict(changed);
        n_valid += accepts(changed) ? 1 : 0;
      }
      std::string cut = text;
      check_verdict(cut.erase(i, 1));
      std::string doubled = text;
      check_verdict(doubled.insert(i, 1, text[i]));
    }
  }
  CHECK(n_valid > 1000);
}

TEST_CASE("JSON automaton: texts at the borders of the grammar") {
  for (const char* text :
       {"{}", "\r\n\t{ }", "{\"\":0}", "{\"a\":-0.0e-00}", "{\"a\":[[],{},\"\",null]}",
        "{\"\\uD7FF\":\"\\uE000\"}", "{\"a\":1,\"a\":2}"}) {
    CAPTURE(std::string(text));
    CHECK(accepts(text));
    CHECK(is_object(text));
  }
  for (const char* text : {"",
                           "[]",
                           "1",
                           "\"a\"",
                           "null",
                           "{},",
                           "{,}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{\"a\":01}",
                           "{\"a\":1.}",
                           "{\"a\":.1}",
                           "{\"a\":+1}",
                           "{\"a\":1e}",
                           "{\"a\":-}",
                           "{\"a\":nul}",
                           "{\"a\":True}",
                           "{\"a\":NaN}",
                           "{\"a\":[1,]}",
                           "{\"a\":[1}",
                           "{\"a\":1]",
                           "{'a':1}",
                           "{a:1}",
                           "{\"\\x\":1}",
                           "{\"\\u12g4\":1}",
                           "{\"\t\":1}",
                           "{\"\n\":1}",
                           "{\"\xC0\x80\":1}",
                           "{\"\xED\xA0\x80\":1}",
                           "{\"\xF4\x90\x80\x80\":1}",
                           "{\"\x80\":1}",
                           "{\"\xE2\x82\":1}",
                           "{\"a\":1//\n}",
                           "\xEF\xBB\xBF{}"}) {
    CAPTURE(std::string(text));
    CHECK_FALSE(accepts(text));
    if (std::string_view(text).substr(0, 3) != "\xEF\xBB\xBF") CHECK_FALSE(is_object(text));
  }
  // Stricter than the RFC, on purpose.
  CHECK_FALSE(accepts("{} "));
  CHECK_FALSE(accepts("  {}"));
  CHECK_FALSE(accepts("{ \n}"));
  CHECK_FALSE(accepts("{\n\n\n}"));
  CHECK_FALSE(accepts("{\"\\uD83D\\uDE00\":1}"));
  CHECK_FALSE(accepts("{\"\\udfff\":1}"));
}

TEST_CASE("JSON automaton: limits of nesting, indentation and numbers") {
  const auto nested = [](int n_arrays) {
    return "{\"a\":" + std::string(static_cast<size_t>(n_arrays), '[') +
           std::string(static_cast<size_t>(n_arrays), ']') + "}";
  };
  CHECK(accepts(nested(JsonAutomaton::kMaxDepth - 1)));
  CHECK_FALSE(accepts(nested(JsonAutomaton::kMaxDepth)));
  std::string objects;
  for (int i = 0; i < JsonAutomaton::kMaxDepth - 1; ++i)
    objects += "{\"\":";
  CHECK(accepts(objects + "{}" + std::string(JsonAutomaton::kMaxDepth - 1, '}')));
  CHECK_FALSE(after(objects + "{\"\":{"));

  const auto indented = [&](size_t depth, size_t n_blanks) {
    return std::string("{\"a\":") + std::string(depth - 1, '[') + '\n' +
           std::string(n_blanks, ' ') + std::string(depth - 1, ']') + '}';
  };
  for (const size_t depth : {2, 3, 14, 15, 16, 64}) {
    const size_t most = std::min<size_t>(4 * depth, 60);
    CHECK(accepts(indented(depth, most)));
    CHECK_FALSE(accepts(indented(depth, most + 1)));
  }

  const std::string digits(JsonAutomaton::kMaxNumberDigits, '9');
  CHECK(accepts("{\"a\":" + digits + "e99}"));
  CHECK(is_object("{\"a\":" + digits + "e99}"));  // a double holds it
  CHECK_FALSE(accepts("{\"a\":" + digits + "9}"));
  CHECK_FALSE(after("{\"a\":" + digits + "."));
  CHECK(accepts("{\"a\":0." + digits.substr(1) + "}"));
  CHECK_FALSE(after("{\"a\":0." + digits));
  CHECK_FALSE(after("{\"a\":1e100"));
  CHECK_FALSE(is_object("{\"a\":1e999}"));
}

TEST_CASE("JSON automaton: what is string content as a whole") {
  for (const char* text : {"a", " b", "\xE2\x82\xAC", "\\n", "\\\"", "\\u00e9x", "{}[]:,"})
    CHECK(JsonAutomaton::is_string_content(text));
  for (const char* text : {"\"", "a\"", "\\", "\\u00", "\xE2\x82", "\x82", "\n", "a\",\"b", "\\x"})
    CHECK_FALSE(JsonAutomaton::is_string_content(text));
}

}  // namespace flexq::test
