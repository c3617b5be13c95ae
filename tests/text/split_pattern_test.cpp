// Cutting texts by a pattern: known patterns, long texts, patterns meant to hang.
#include "text/split_pattern.h"

#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

#include "text/llama3_tokens.h"
#include "text/tokenizer_data.h"

namespace flexq {
namespace {

using Parts = std::vector<std::string>;

SplitPattern compile(std::string_view pattern) {
  auto compiled = SplitPattern::compile(pattern);
  REQUIRE_MESSAGE(compiled.ok(), compiled.status().message());
  return std::move(compiled).value();
}

Status split(const SplitPattern& pattern, std::string_view text, Parts& parts) {
  TextSplitter splitter(pattern, text);
  for (;;) {
    auto part = splitter.next();
    if (!part.ok()) return part.status();
    if (part->empty()) return {};
    parts.emplace_back(*part);
  }
}

Parts split_ok(std::string_view pattern, std::string_view text) {
  Parts parts;
  const Status status = split(compile(pattern), text, parts);
  REQUIRE_MESSAGE(status.ok(), status.message());
  std::string all;
  for (const std::string& part : parts)
    all += part;
  REQUIRE(all == text);
  return parts;
}

std::string repeat(std::string_view unit, size_t n) {
  std::string text;
  for (size_t i = 0; i < n; ++i)
    text += unit;
  return text;
}

}  // namespace

TEST_CASE("LLaMA-3's pattern cuts as published") {
  const auto cut = [](std::string_view text) { return split_ok(kLlama3SplitPattern, text); };
  CHECK(cut("").empty());
  CHECK(cut("Hello, world!") == Parts{"Hello", ",", " world", "!"});
  CHECK(cut("I'LL don't we'Re") == Parts{"I", "'LL", " don", "'t", " we", "'Re"});
  CHECK(cut("1234567 89") == Parts{"123", "456", "7", " ", "89"});
  CHECK(cut("a  b   \n\n c\t") == Parts{"a", " ", " b", "   \n\n", " c", "\t"});
  CHECK(cut("   ") == Parts{"   "});
  CHECK(cut("x...\r\n\r\ny") == Parts{"x", "...\r\n\r\n", "y"});
  CHECK(cut("\xE6\x97\xA5\xE6\x9C\xAC\xF0\x9F\x98\x80!") ==
        Parts{"\xE6\x97\xA5\xE6\x9C\xAC", "\xF0\x9F\x98\x80!"});
  // U+017F folds to s; U+00A0 and U+0085 are white space, U+180E and U+001C are not.
  CHECK(cut("a'\xC5\xBF") == Parts{"a", "'\xC5\xBF"});
  CHECK(cut("a\xC2\xA0\xC2\x85") == Parts{"a", "\xC2\xA0\xC2\x85"});
  CHECK(cut(" \xE1\xA0\x8E") == Parts{" \xE1\xA0\x8E"});
  CHECK(cut(" \x1C") == Parts{" \x1C"});
}

TEST_CASE("what lies between matches is a part, empty matches are none") {
  CHECK(split_ok("b+", "aabbabc") == Parts{"aa", "bb", "a", "b", "c"});
  CHECK(split_ok("x", "abc") == Parts{"abc"});
  CHECK(split_ok("b*", "ab") == Parts{"a", "b"});
  CHECK(split_ok("(?=b)", "abab") == Parts{"abab"});
  CHECK(split_ok("\\\\s", "a\\s b") == Parts{"a", "\\s", " b"});
  CHECK(split_ok("[\\S]+", "ab \xE1\xA0\x8E") == Parts{"ab", " ", "\xE1\xA0\x8E"});
}

TEST_CASE("long matches, long gaps, and looking behind") {
  for (const size_t n : {1u, 255u, 257u, 100000u}) {
    CHECK(split_ok("a+|b", repeat("a", n) + "b") == Parts{repeat("a", n), "b"});
    CHECK(split_ok("b", repeat("\xE2\x82\xAC", n) + "b") == Parts{repeat("\xE2\x82\xAC", n), "b"});
    CHECK(split_ok("(?<=x)b", repeat("a", n) + "xb") == Parts{repeat("a", n) + "x", "b"});
    // Backtracks over the whole run.
    CHECK(split_ok(kLlama3SplitPattern, repeat(" ", n + 1) + "a") == Parts{repeat(" ", n), " a"});
  }
}

TEST_CASE("T23_hostile_texts_split_pattern: patterns meant to hang end in a status") {
  const std::string letters = repeat("a", size_t{1} << 18);
  for (const std::string pattern :
       {"(a+)+b", "(a|a)*b", "(a*)*c", "^(.*?,){100}x", "(?=(a+)+b)a|a", "a(?=[^b]*b)|a",
        "(a?){300}a{300}b", "((a{1,100}){1,100}){1,100}b", "(?:(?=.*b)|a)+b"}) {
    CAPTURE(pattern);
    auto compiled = SplitPattern::compile(pattern);
    if (!compiled.ok()) {
      CHECK(compiled.status().code() == StatusCode::kUnsupportedModel);
      continue;
    }
    // Without a "b" most patterns fail before they begin.
    for (const std::string& text :
         {letters, letters + "!b", repeat(repeat("a", 30) + "!b", 8000)}) {
      const auto start = std::chrono::steady_clock::now();
      Parts parts;
      const Status status = split(*compiled, text, parts);
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      MESSAGE(pattern << ": " << status.message() << ", " << elapsed.count() << " s");
      if (!status.ok()) CHECK(status.code() == StatusCode::kLimitExceeded);
    }
  }
}

TEST_CASE("patterns that are not taken are refused by name") {
  const auto refused = [](const std::string& pattern, StatusCode code, const std::string& part) {
    const Status status = SplitPattern::compile(pattern).status();
    CAPTURE(status.message());
    CHECK(status.code() == code);
    CHECK(status.message().find(part) != std::string::npos);
  };
  const auto unsupported = StatusCode::kUnsupportedModel;
  refused("(", unsupported, "'(': not taken by PCRE2: missing closing parenthesis");
  refused("(a)\\1", unsupported, "a back reference");
  refused("a{256}", unsupported, "a repeat count above 255");
  refused("a{1,99999999999}", unsupported, "a repeat count above 255");
  refused("[z-a]", unsupported, "range out of order");
  refused("\\p{Klingon}", unsupported, "unknown property");
  refused("\\C", unsupported, "using \\C is disabled");
  refused(repeat("(", 40) + repeat(")", 40), unsupported, "parentheses are too deeply nested");
  refused("\xFF", StatusCode::kCorrupt, "not valid UTF-8");
  refused(std::string(static_cast<size_t>(kMaxSplitPatternBytes) + 1, 'a'),
          StatusCode::kLimitExceeded, "4097 bytes, at most 4096");
  CHECK(SplitPattern::compile(std::string(static_cast<size_t>(kMaxSplitPatternBytes), 'a')).ok());
}

}  // namespace flexq
