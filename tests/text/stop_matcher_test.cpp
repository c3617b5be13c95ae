#include "text/stop_matcher.h"

#include <doctest/doctest.h>

#include <random>

#include "text/utf8.h"

namespace flexq {
namespace {

struct Match {
  size_t begin;
  int32_t index;  // -1: none
};

// By definition: the first end of any match, and there the longest.
Match find_stop(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    Match best{end, -1};
    for (size_t i = 0; i < stops.size(); ++i) {
      if (!std::string_view(text).substr(0, end).ends_with(stops[i])) continue;
      if (end - stops[i].size() < best.begin)
        best = {end - stops[i].size(), static_cast<int32_t>(i)};
    }
    if (best.index >= 0) return best;
  }
  return {text.size(), -1};
}

// Bytes at the end of `text` that must be held back: the longest beginning of a stop string.
size_t held_bytes(const std::string& text, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops)
    for (size_t n = held + 1; n < stop.size() && n <= text.size(); ++n)
      if (std::string_view(text).ends_with(std::string_view(stop).substr(0, n))) held = n;
  return held;
}

}  // namespace

TEST_CASE("stop strings are found as defined however the text is cut") {
  std::mt19937 random(3);
  const auto below = [&random](size_t n) { return static_cast<size_t>(random() % n); };
  static const std::string kCharacters[] = {"a", "b", "\xC3\xA9", "\xC3\xA8", "\xF0\x9F\xA6\x99"};
  const auto make = [&](size_t n_characters, size_t alphabet) {
    std::string text;
    for (size_t i = 0; i < n_characters; ++i)
      text += kCharacters[below(alphabet)];
    return text;
  };
  int n_matches = 0;
  for (int round = 0; round < 20000; ++round) {
    const size_t alphabet = 1 + below(5);
    std::vector<std::string> stops(below(5));
    for (std::string& stop : stops)
      stop = make(1 + below(8), alphabet);
    const std::string text = make(below(40), alphabet);
    const Match expected = find_stop(text, stops);

    auto matcher = StopMatcher::create(stops);
    REQUIRE(matcher.ok());
    std::string out;
    size_t at = 0;
    while (at < text.size()) {
      size_t n_bytes = 0;
      for (size_t n = below(4); n > 0 && at + n_bytes < text.size(); --n)
        n_bytes += static_cast<size_t>(valid_character_bytes(text.substr(at + n_bytes)));
      matcher->push(text.substr(at, n_bytes), out);
      at += n_bytes;
      REQUIRE(is_valid_utf8(out));
      if (matcher->matched() < 0) {
        const std::string seen = text.substr(0, at);
        REQUIRE(out == seen.substr(0, at - held_bytes(seen, stops)));
      }
    }
    matcher->finish(out);
    REQUIRE(matcher->matched() == expected.index);
    REQUIRE(out == text.substr(0, expected.begin));
    n_matches += expected.index >= 0;
  }
  CHECK(n_matches > 1000);
  CHECK(n_matches < 19000);
}

TEST_CASE("stop strings beyond the limits are refused by name") {
  using Strings = std::vector<std::string>;
  const auto code = [](const Strings& stops) { return StopMatcher::create(stops).status().code(); };
  CHECK(code(Strings(64, std::string(1024, 'x'))) == StatusCode::kOk);
  CHECK(code(Strings(65, "x")) == StatusCode::kLimitExceeded);
  CHECK(code({std::string(1025, 'x')}) == StatusCode::kLimitExceeded);
  CHECK(code({"x", ""}) == StatusCode::kInvalidArgument);
  CHECK(code({"\xC3"}) == StatusCode::kInvalidArgument);
  CHECK(StopMatcher::create(Strings{"ok", "\xFF"}).status().message() ==
        "stop string 1 is not valid UTF-8");
}

}  // namespace flexq
