#include "text/token_stream.h"

#include <doctest/doctest.h>

#include "text/every_tokenizer.h"
#include "text/utf8.h"

namespace flexq::test {
namespace {

TokenStream make_stream(const std::shared_ptr<const Tokenizer>& tokenizer,
                        std::span<const int32_t> prompt,
                        const std::vector<std::string>& stops = {}) {
  auto stream = TokenStream::create(tokenizer, prompt, stops);
  REQUIRE_MESSAGE(stream.ok(), stream.status().message());
  return std::move(stream).value();
}

std::string push(TokenStream& stream, int32_t id) {
  auto text = stream.push(id);
  REQUIRE_MESSAGE(text.ok(), text.status().message());
  REQUIRE(is_valid_utf8(*text));
  return std::string(*text);
}

}  // namespace

TEST_CASE("a stream hands out decode(all) minus decode(prompt) for every split") {
  for (const auto& entry : every_tokenizer()) {
    const auto& name = entry.name;
    const auto& tokenizer = entry.tokenizer;
    CAPTURE(name);
    RandomText random(*tokenizer);
    for (int round = 0; round < 60; ++round) {
      std::vector<int32_t> ids = random.make_ids(40);
      if (round % 2 == 0) {
        const std::string text = random.make(RandomText::kCharacters, 30);
        ids = encode_text(*tokenizer, text);
        REQUIRE(decode_ids(*tokenizer, ids) == text);
      }
      const std::string all = decode_ids(*tokenizer, ids);
      REQUIRE(is_valid_utf8(all));
      for (size_t split = 0; split <= ids.size(); ++split) {
        const std::span<const int32_t> prompt(ids.data(), split);
        TokenStream stream = make_stream(tokenizer, prompt);
        std::string streamed;
        for (size_t i = split; i < ids.size(); ++i)
          streamed += push(stream, ids[i]);
        streamed += stream.finish();
        // What is certain after the prompt, and what decode() makes of the prompt alone: they
        // differ when the prompt ends within a character.
        TokenStream prompt_stream = make_stream(tokenizer, {});
        std::string certain;
        for (const int32_t id : prompt)
          certain += push(prompt_stream, id);
        const std::string rest(prompt_stream.finish());
        REQUIRE(certain + rest == decode_ids(*tokenizer, prompt));
        REQUIRE(certain + streamed == all);
      }
    }
  }
}

TEST_CASE("text comes as soon as it is certain") {
  const auto tokenizer = load_tokenizer(source_path("tests/data/wiki-tiny-1m/tokenizer.model"));
  const auto byte = [&](const char* name) { return tokenizer->id_of(name); };
  TokenStream stream = make_stream(tokenizer, {});
  CHECK(push(stream, tokenizer->bos_id()) == "");
  CHECK(push(stream, tokenizer->id_of("\xE2\x96\x81the")) == "the");
  CHECK(push(stream, tokenizer->id_of("\xE2\x96\x81the")) == " the");
  CHECK(push(stream, byte("<0xF0>")) == "");
  CHECK(push(stream, byte("<0x9F>")) == "");
  CHECK(push(stream, byte("<0xA6>")) == "");
  CHECK(push(stream, byte("<0x99>")) == "\xF0\x9F\xA6\x99");
  CHECK(push(stream, byte("<0xE2>")) == "");
  CHECK(push(stream, byte("<0x41>")) ==
        "\xEF\xBF\xBD"
        "A");  // the first byte came to nothing
  CHECK(push(stream, byte("<0xFF>")) == "\xEF\xBF\xBD");
  CHECK(push(stream, byte("<0xE2>")) == "");
  CHECK(push(stream, tokenizer->id_of("a")) ==
        "\xEF\xBF\xBD"
        "a");
  CHECK(stream.push(tokenizer->n_vocab()).status().code() == StatusCode::kInvalidArgument);
  CHECK(stream.push(-1).status().code() == StatusCode::kInvalidArgument);
  CHECK(push(stream, byte("<0xE2>")) == "");
  CHECK(push(stream, byte("<0x96>")) == "");
  CHECK(stream.finish() == "\xEF\xBF\xBD\xEF\xBF\xBD");

  const std::vector<int32_t> bad_prompt = {1, tokenizer->n_vocab()};
  CHECK(TokenStream::create(tokenizer, bad_prompt).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("a stream with stop strings ends in front of the first of them") {
  const auto tokenizer = load_tokenizer(source_path("tests/data/wiki-tiny-1m/tokenizer.model"));
  RandomText random(*tokenizer, 5);
  int n_stopped = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::string text = random.make(RandomText::kPieces, 12);
    const std::vector<int32_t> ids = encode_text(*tokenizer, text);
    std::string decoded = decode_ids(*tokenizer, ids);
    // A stop string out of the text itself, which may begin and end inside tokens.
    std::vector<std::string> stops = {"never in the text"};
    if (decoded.size() > 3) {
      size_t begin = static_cast<size_t>(random.below(static_cast<int>(decoded.size())));
      while (valid_character_bytes(std::string_view(decoded).substr(begin)) == 0)
        --begin;
      size_t end = begin;
      for (int n = 1 + random.below(5); n > 0 && end < decoded.size(); --n)
        end += static_cast<size_t>(valid_character_bytes(std::string_view(decoded).substr(end)));
      stops.push_back(decoded.substr(begin, end - begin));
      decoded.resize(decoded.find(stops[1]));
    }
    TokenStream stream = make_stream(tokenizer, {}, stops);
    std::string streamed;
    for (const int32_t id : ids) {
      const bool was_stopped = stream.stopped();
      const std::string more = push(stream, id);
      REQUIRE((!was_stopped || more.empty()));
      streamed += more;
    }
    streamed += stream.finish();
    REQUIRE(streamed == decoded);
    REQUIRE(stream.stop_index() == (stops.size() == 2 ? 1 : -1));
    n_stopped += stream.stopped();
  }
  CHECK(n_stopped > 1000);
}

}  // namespace flexq::test
