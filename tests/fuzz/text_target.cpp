// Texts through one small tokenizer of every kind. First byte of an input: tokenizer (bits 0, 1),
// add_bos (2), parse_special (3), stop strings (4), chat (5). Second byte: where the text is cut.
#include <algorithm>
#include <vector>

#include "fuzz/fuzz_target.h"
#include "fuzz/small_tokenizers.h"
#include "fuzz/tokenizer_use.h"
#include "text/chat_template.h"
#include "text/sentencepiece_model.h"
#include "text/stop_matcher.h"
#include "text/tiktoken_model.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace flexq::test {
namespace {

using TokenizerPointer = std::shared_ptr<const Tokenizer>;

TokenizerPointer make(Result<TokenizerData> data) {
  FUZZ_REQUIRE(data.ok(), data.status().message());
  const auto tokenizer = Tokenizer::create(std::move(data).value());
  FUZZ_REQUIRE(tokenizer.ok(), tokenizer.status().message());
  return *tokenizer;
}

const TokenizerPointer& tokenizer_of(int index) {
  static const std::string model = small_sentencepiece_model();
  static const TokenizerPointer tokenizers[] = {
      make(read_sentencepiece_model({reinterpret_cast<const uint8_t*>(model.data()), model.size()},
                                    "spm")),
      make(read_tiktoken_model(small_tiktoken_model(), {}, "ranks")),
      make(read_tokenizer_json(small_byte_level_json(), "byte level")),
      make(read_tokenizer_json(small_character_json(), "characters")),
  };
  return tokenizers[index];
}

// decode(encode(x)) == x, as tokenizer.h promises.
void check_round_trip(const Tokenizer& tokenizer, std::string_view text) {
  const bool byte_level = tokenizer.data().kind == TokenizerKind::kByteLevelBpe;
  if (!byte_level && text.find(kSpaceSymbol) != std::string_view::npos) return;
  const auto ids = tokenizer.encode(text);
  FUZZ_REQUIRE(ids.ok(), ids.status().message());
  const auto decoded = tokenizer.decode(*ids);
  FUZZ_REQUIRE(decoded.ok() && *decoded == replace_invalid_utf8(text), *decoded);
}

// The same ids whether a text comes whole or in two parts.
void check_segments(const Tokenizer& tokenizer, std::string_view text, size_t cut,
                    const EncodeOptions& options) {
  const TextSegment segments[] = {{text.substr(0, cut), options.parse_special},
                                  {text.substr(cut), options.parse_special}};
  const auto parts = tokenizer.encode_segments(segments, options.add_bos);
  FUZZ_REQUIRE(parts.ok(), parts.status().message());
  // A cut through a character or a control piece makes another text of it.
  if (options.parse_special || !is_valid_utf8(text.substr(0, cut))) return;
  const auto whole = tokenizer.encode(text, options);
  FUZZ_REQUIRE(whole.ok() && *whole == *parts, "other ids in two segments");
}

void check_stops(std::string_view text, size_t cut) {
  const std::vector<std::string> stops = {std::string(text.substr(0, cut)), "the"};
  auto matcher = StopMatcher::create(stops);
  if (!matcher.ok()) return;  // an empty, long or malformed stop string: the caller's mistake
  std::string out;
  const std::string_view rest = text.substr(cut);
  for (size_t at = 0; at < rest.size(); at += 3)
    matcher->push(rest.substr(at, 3), out);
  matcher->finish(out);
  FUZZ_REQUIRE(rest.starts_with(out), out);
  size_t first_end = std::string_view::npos;
  for (const std::string& stop : stops)
    if (const size_t at = rest.find(stop); at != std::string_view::npos)
      first_end = std::min(first_end, at + stop.size());
  FUZZ_REQUIRE((matcher->matched() >= 0) == (first_end != std::string_view::npos), out);
}

void use_chat(const Tokenizer& tokenizer, std::string_view text, size_t cut) {
  recognize_chat_template(text);
  const ChatMessage messages[] = {{ChatRole::kSystem, text.substr(0, cut)},
                                  {ChatRole::kUser, text.substr(cut)}};
  for (const ChatTemplate chat :
       {ChatTemplate::kLlama2, ChatTemplate::kLlama3, ChatTemplate::kChatMl, ChatTemplate::kZephyr,
        ChatTemplate::kVicuna}) {
    // Formats whose control tokens the vocabulary lacks are refused.
    accepted(encode_chat(tokenizer, chat, messages, true).status());
    chat_stops(tokenizer, chat);
  }
}

}  // namespace

bool fuzz_text(FuzzInput input) {
  const uint8_t flags = take_byte(input);
  const size_t wanted_cut = take_byte(input);
  const size_t cut = std::min(wanted_cut, input.size());
  const std::string_view text = as_text(input);
  const TokenizerPointer& tokenizer = tokenizer_of(flags & 3);
  const EncodeOptions options = {.add_bos = (flags & 4) != 0, .parse_special = (flags & 8) != 0};
  const bool ok = use_text(tokenizer, text, options);
  check_round_trip(*tokenizer, text);
  check_segments(*tokenizer, text, cut, options);
  if ((flags & 16) != 0) check_stops(text, cut);
  if ((flags & 32) != 0) use_chat(*tokenizer, text, cut);
  return ok;
}

}  // namespace flexq::test
