// Cutting texts by a pattern: known patterns, long texts, patterns meant to hang.
#include "text/split_pattern.h"

#include <doctest/doctest.h>

#include <chrono>
#include <random>
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

TEST_CASE("cuts do not depend on how far a match or the gap before it reaches") {
  std::mt19937 random(5);
  // The same pattern with a first alternative that looks to the end of the text before it fails, so
  // that every match is found in the largest window.
  const std::string pattern = "[ab]+(?!c)|[cd]+";
  const std::string through = "(?=[^#]*#)z|" + pattern;
  for (int round = 0; round < 300; ++round) {
    std::string text;
    while (text.size() < 6000 && (text.empty() || random() % 40 != 0)) {
      const uint32_t kind = random() % 7;
      const size_t n = kind < 5 ? 1 + random() % 8 : random() % 900;
      static const char* const kUnits[] = {"a", "b", "c", "d", "e", "\xC3\xA9", "a"};
      text += repeat(kUnits[kind], n);
    }
    Parts parts;
    // A budget that is linear in the text may not suffice for the second pattern; it then says so.
    const Status status = split(compile(through), text, parts);
    if (status.ok())
      REQUIRE(split_ok(pattern, text) == parts);
    else
      REQUIRE(status.code() == StatusCode::kLimitExceeded);
  }
  for (const size_t n : {255u, 256u, 257u, 2048u, 100000u}) {
    CHECK(split_ok("a+|b", repeat("a", n) + "b") == Parts{repeat("a", n), "b"});
    CHECK(split_ok("b", repeat("\xE2\x82\xAC", n) + "b") == Parts{repeat("\xE2\x82\xAC", n), "b"});
    CHECK(split_ok("(?<=x)b", repeat("a", n) + "xb") == Parts{repeat("a", n) + "x", "b"});
  }
}

TEST_CASE("T23_hostile_texts_split_pattern: patterns meant to hang end in a status") {
  const std::string text = repeat("a", size_t{1} << 18);
  for (const char* pattern :
       {"(a+)+b", "(a|a)*b", "(a*)*c", "^(.*?,){100}x", "(?=(a+)+b)a|a", "a(?=[^b]*b)|a",
        "(a?){300}a{300}b", "((a{1,100}){1,100}){1,100}b", "(?:(?=.*b)|a)+b"}) {
    CAPTURE(pattern);
    auto compiled = SplitPattern::compile(pattern);
    if (!compiled.ok()) {
      CHECK(compiled.status().code() == StatusCode::kUnsupportedModel);
      continue;
    }
    const auto start = std::chrono::steady_clock::now();
    Parts parts;
    const Status status = split(*compiled, text, parts);
    MESSAGE(
        pattern << ": " << status.message() << ", "
                << std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()
                << " s");
    if (!status.ok()) CHECK(status.code() == StatusCode::kLimitExceeded);
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
  refused("[z-a]", unsupported, "range out of order");
  refused("\\p{Klingon}", unsupported, "unknown property");
  refused("\\C", unsupported, "PCRE2_NEVER_BACKSLASH_C");
  refused(repeat("(", 40) + repeat(")", 40), unsupported, "parentheses are too deeply nested");
  refused("\xFF", StatusCode::kCorrupt, "not valid UTF-8");
  refused(std::string(static_cast<size_t>(kMaxSplitPatternBytes) + 1, 'a'),
          StatusCode::kLimitExceeded, "4097 bytes, at most 4096");
  CHECK(SplitPattern::compile(std::string(static_cast<size_t>(kMaxSplitPatternBytes), 'a')).ok());
}

}  // namespace flexq
