#include "fuzz/tokenizer_use.h"

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "text/json_vocabulary.h"
#include "text/token_stream.h"
#include "text/tokenizer_segment.h"
#include "text/utf8.h"

namespace flexq::test {
namespace {

constexpr std::string_view kTexts[] = {
    "Once  upon <s> a\ttime \xF0\x9F\xA6\x99 \xFF\xC3",
    "",
    " ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\xE2\x96\x81 12345's <|eot_id|>\r\n",
};

// Symbols that the merge queue begins with, at most: bytes, or characters with a prefix and three
// bytes for each byte that is no character.
double max_symbols(std::string_view text) {
  return 3.0 * static_cast<double>(text.size()) + 8.0;
}

// Answers kept to JSON, of the first and of the last tokens allowed: what is streamed is an object.
void use_json(const std::shared_ptr<const Tokenizer>& tokenizer) {
  const JsonVocabulary& vocabulary = tokenizer->json_vocabulary();
  if (!vocabulary.check_closing(tokenizer->n_vocab()).ok()) return;
  std::vector<JsonAutomaton> states(vocabulary.n_states());
  std::vector<uint64_t> allowed((static_cast<size_t>(tokenizer->n_vocab()) + 63) / 64);
  for (const bool from_end : {false, true}) {
    auto stream = TokenStream::create(tokenizer);
    FUZZ_REQUIRE(stream.ok(), stream.status().message());
    std::string streamed;
    states[0] = JsonAutomaton();
    for (int64_t remaining = 12; !states[0].complete(); --remaining) {
      const JsonAutomaton state = states[0];
      vocabulary.allow(states, remaining - 1, allowed);
      int32_t token = -1;
      for (int32_t id = 0; id < tokenizer->n_vocab() && (token < 0 || from_end); ++id) {
        if ((allowed[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0) token = id;
      }
      FUZZ_REQUIRE(remaining > 0 && token >= 0, streamed);
      states[0] = state;
      for (const char byte : tokenizer->piece_bytes(token))
        FUZZ_REQUIRE(states[0].accept(static_cast<uint8_t>(byte)), streamed);
      const auto part = stream->push(token);
      FUZZ_REQUIRE(part.ok(), part.status().message());
      streamed += *part;
    }
    streamed += stream->finish();
    FUZZ_REQUIRE(Json::parse(streamed, nullptr, false).is_object(), streamed);
  }
}

}  // namespace

bool use_text(const std::shared_ptr<const Tokenizer>& tokenizer, std::string_view text,
              const EncodeOptions& options) {
  EncodeCounters counters;
  const auto ids = tokenizer->encode(text, options, &counters);
  if (!accepted(ids.status())) return false;
  const double n = max_symbols(text);
  FUZZ_REQUIRE(static_cast<double>(counters.n_queue_operations) <= 4 * n * std::log2(n),
               std::to_string(counters.n_queue_operations));
  for (const int32_t id : *ids) {
    FUZZ_REQUIRE(id >= 0 && id < tokenizer->n_vocab(), std::to_string(id));
    tokenizer->piece_bytes(id);
  }
  const auto decoded = tokenizer->decode(*ids);
  FUZZ_REQUIRE(decoded.ok(), decoded.status().message());
  FUZZ_REQUIRE(is_valid_utf8(*decoded), *decoded);

  auto stream = TokenStream::create(tokenizer);
  FUZZ_REQUIRE(stream.ok(), stream.status().message());
  std::string streamed;
  for (const int32_t id : *ids) {
    const auto part = stream->push(id);
    FUZZ_REQUIRE(part.ok(), part.status().message());
    FUZZ_REQUIRE(is_valid_utf8(*part), *part);
    streamed += *part;
  }
  streamed += stream->finish();
  FUZZ_REQUIRE(streamed == *decoded, streamed);
  return true;
}

bool use_tokenizer(Result<TokenizerData> data) {
  if (!accepted(data.status())) return false;
  const auto section = serialize_tokenizer(*data);
  FUZZ_REQUIRE(section.ok(), section.status().message());
  const auto again = parse_tokenizer(*section);
  FUZZ_REQUIRE(again.ok(), again.status().message());
  const auto rewritten = serialize_tokenizer(*again);
  FUZZ_REQUIRE(rewritten.ok() && *rewritten == *section, "another section");

  const auto tokenizer = Tokenizer::create(std::move(data).value());
  FUZZ_REQUIRE(tokenizer.ok(), tokenizer.status().message());
  for (const std::string_view text : kTexts)
    use_text(*tokenizer, text, {.add_bos = true, .parse_special = text.size() % 2 == 0});
  for (int32_t id = -1; id <= std::min((*tokenizer)->n_vocab(), 300); ++id)
    (*tokenizer)->id_of((*tokenizer)->piece_bytes(id));
  use_json(*tokenizer);
  return true;
}

}  // namespace flexq::test
