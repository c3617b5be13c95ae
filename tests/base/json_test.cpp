#include "base/json.h"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

namespace flexq {
namespace {

std::string nested(int depth) {
  const auto n = static_cast<size_t>(depth);
  return std::string(n, '[') + std::string(n, ']');
}

// The message of a text that must be refused.
std::string refusal(const std::string& text) {
  const auto result = parse_json(text, "config.json");
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().code() == StatusCode::kCorrupt);
  return result.status().message();
}

TEST_CASE("json: documents equal those of the library's own parser") {
  for (const char* text :
       {"null", "true", "-12", "18446744073709551615", "1.5e-3", "\"a\\u00e9\\ud83d\\ude00\"", "[]",
        "{}", "[1,[2,[3,{}]],{\"a\":[{\"b\":null}]}]", "{\"x\":{\"y\":{\"z\":[1,2,{}]}},\"w\":[]}",
        " {\"a\" : [ ] , \"b\" : { } } \n", "{\"\":0}"}) {
    const auto result = parse_json(text, "test");
    REQUIRE(result.ok());
    CHECK(result->root() == Json::parse(text));
  }
}

TEST_CASE("json: malformed texts are refused with their byte position") {
  CHECK(refusal("") ==
        "config.json: malformed JSON at byte 1 of 0: syntax error while parsing "
        "value - unexpected end of input; expected '[', '{', or a literal");
  CHECK(refusal("{\"a\": tru}").find("at byte 10 of 10") != std::string::npos);
  for (const char* text : {"{", "[1,]", "{\"a\":1,}", "[1] x", "nul", "\"\x01\"", "\"\xff\"",
                           "1e999", "{1:2}", "// comment\n1", "\"\\ud800\"", "[1}", "]"}) {
    CAPTURE(text);
    refusal(text);
  }
}

TEST_CASE("json: messages stay short and printable whatever the text") {
  const std::string message = refusal("[\"" + std::string(100000, '\xff'));
  CHECK(message.size() < 300);
  for (const char c : message)
    CHECK((c >= 0x20 && c <= 0x7e));
  CHECK(refusal("{\"k\xc3\xa9y\":1,\"k\xc3\xa9y\":2}").find("duplicate key \"k??y\"") !=
        std::string::npos);
}

TEST_CASE("json: nesting of 64 levels is accepted, 65 and a million are refused") {
  CHECK(parse_json(nested(kMaxJsonDepth), "test").ok());
  CHECK(refusal(nested(kMaxJsonDepth + 1)) ==
        "config.json: malformed JSON at byte 65 of 130: nested deeper than 64 levels");
  refusal(std::string(1000000, '['));
  std::string objects;
  for (int i = 0; i < kMaxJsonDepth + 1; ++i)
    objects += "{\"a\":";
  CHECK(refusal(objects).find("nested deeper than 64 levels") != std::string::npos);
}

TEST_CASE("json: duplicate keys are refused in one object, accepted in two") {
  CHECK(refusal("{\"a\":1,\"b\":2,\"a\":3}") ==
        "config.json: malformed JSON at byte 16 of 19: duplicate key \"a\"");
  CHECK(refusal("[{\"x\":{\"a\":1,\"a\":1}}]").find("duplicate key \"a\"") != std::string::npos);
  CHECK(parse_json("{\"a\":{\"a\":1},\"b\":{\"a\":{\"a\":2}}}", "test").ok());
}

TEST_CASE("json: misuse by a caller is an exception, never an abort") {
  const Json object = Json::object();
  CHECK_THROWS_AS((void)object["absent"], std::logic_error);
}

}  // namespace
}  // namespace flexq
