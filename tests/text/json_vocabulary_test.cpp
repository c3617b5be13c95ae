// JsonVocabulary against a look at every token, along random answers with every tokenizer.
#include "text/json_vocabulary.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "base/json.h"
#include "text/every_tokenizer.h"
#include "text/token_stream.h"

namespace flexq::test {
namespace {

bool has_bit(std::span<const uint64_t> bits, int32_t token) {
  const auto index = static_cast<size_t>(token);
  return (bits[index / 64] >> (index % 64) & 1) != 0;
}

bool accept_all(JsonAutomaton& state, std::string_view bytes) {
  for (const char byte : bytes) {
    if (!state.accept(static_cast<uint8_t>(byte))) return false;
  }
  return true;
}

// From the definition, token by token.
std::vector<uint64_t> allowed_by_definition(const Tokenizer& tokenizer, const JsonAutomaton& state,
                                            int64_t max_closing) {
  std::vector<uint64_t> bits((static_cast<size_t>(tokenizer.n_vocab()) + 63) / 64);
  for (int32_t id = 0; id < tokenizer.n_vocab(); ++id) {
    const std::string_view bytes = tokenizer.piece_bytes(id);
    JsonAutomaton next = state;
    if (bytes.empty() || id == tokenizer.unk_id()) continue;
    if (!accept_all(next, bytes) || next.closing_bytes() > max_closing) continue;
    bits[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
  }
  return bits;
}

// A random token of the mask; every second time one with a mark of JSON in it, if there is one.
int32_t choose(const Tokenizer& tokenizer, std::span<const uint64_t> allowed,
               std::mt19937_64& random) {
  std::vector<int32_t> all, marked;
  for (int32_t id = 0; id < tokenizer.n_vocab(); ++id) {
    if (!has_bit(allowed, id)) continue;
    all.push_back(id);
    if (tokenizer.piece_bytes(id).find_first_of("\"\\{[:,-0123456789}]") != std::string_view::npos)
      marked.push_back(id);
  }
  REQUIRE_FALSE(all.empty());
  const std::vector<int32_t>& choices = marked.empty() || random() % 2 == 0 ? all : marked;
  return choices[random() % choices.size()];
}

struct Work {
  int64_t n_steps = 0;
  int64_t n_asked = 0;
  int64_t n_most_asked = 0;
  int64_t ns = 0;
};

// One answer of at most n_tokens tokens from the start of a text: what is streamed is an object.
void generate(const Tokenizer& tokenizer, TokenStream stream, int64_t n_tokens, int n_compared,
              std::mt19937_64& random, Work& work) {
  const JsonVocabulary& vocabulary = tokenizer.json_vocabulary();
  std::vector<JsonAutomaton> states(vocabulary.n_states());
  std::vector<uint64_t> allowed((static_cast<size_t>(tokenizer.n_vocab()) + 63) / 64);
  JsonAutomaton state;
  std::string seen, streamed;
  for (int64_t remaining = n_tokens; !state.complete(); --remaining) {
    REQUIRE(remaining > 0);
    states[0] = state;
    const auto begin = std::chrono::steady_clock::now();
    const int64_t n_asked = vocabulary.allow(states, remaining - 1, allowed);
    work.ns += (std::chrono::steady_clock::now() - begin).count();
    ++work.n_steps;
    work.n_asked += n_asked;
    work.n_most_asked = std::max(work.n_most_asked, n_asked);
    if (random() % 16 < static_cast<unsigned>(n_compared)) {
      CAPTURE(seen);
      REQUIRE(allowed == allowed_by_definition(tokenizer, state, remaining - 1));
    }
    const int32_t token = choose(tokenizer, allowed, random);
    const std::string_view bytes = tokenizer.piece_bytes(token);
    REQUIRE(accept_all(state, bytes));
    REQUIRE(state.closing_bytes() < remaining);
    seen += bytes;
    const auto text = stream.push(token);
    REQUIRE(text.ok());
    streamed += *text;
  }
  streamed += stream.finish();
  CAPTURE(streamed);
  REQUIRE(Json::parse(streamed, nullptr, false).is_object());
  // Only spaces at the beginning of a text may be lost, which JSON does not see.
  REQUIRE(seen.ends_with(streamed));
  REQUIRE(seen.find_first_not_of(' ') >= seen.size() - streamed.size());
}

std::shared_ptr<const Tokenizer> without_byte(const std::string& missing) {
  TokenizerData data;
  data.unk_id = 0;
  REQUIRE(data.add_piece("<unk>", 0, PieceType::kUnknown).ok());
  for (char byte = '!'; byte <= '~'; ++byte) {
    const std::string piece(1, byte);
    if (piece != missing) REQUIRE(data.add_piece(piece, 0, PieceType::kNormal).ok());
  }
  auto tokenizer = Tokenizer::create(std::move(data));
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  return *tokenizer;
}

}  // namespace

TEST_CASE("JSON vocabulary: the tokens allowed are those of the definition, and spell an object") {
  for (const auto& [known_as, tokenizer] : every_tokenizer()) {
    const std::string& name = known_as;  // which CAPTURE can capture
    CAPTURE(name);
    const auto begin = std::chrono::steady_clock::now();
    REQUIRE(tokenizer->json_vocabulary().check_closing(tokenizer->n_vocab()).ok());
    const int64_t making_ns = (std::chrono::steady_clock::now() - begin).count();
    int64_t n_bytes = 0;  // what a look at every token would ask about at most
    for (int32_t id = 0; id < tokenizer->n_vocab(); ++id)
      n_bytes += static_cast<int64_t>(tokenizer->piece_bytes(id).size());
    std::mt19937_64 random(7);
    Work work;
    const bool is_large = tokenizer->n_vocab() > 10000;
    for (int64_t n_tokens = 2; n_tokens < (is_large ? 22 : 62); n_tokens += is_large ? 4 : 1) {
      auto stream = TokenStream::create(tokenizer);
      REQUIRE(stream.ok());
      generate(*tokenizer, std::move(*stream), n_tokens, is_large ? 1 : 8, random, work);
    }
    for (int round = 0; round < (is_large ? 1 : 10); ++round) {
      auto stream = TokenStream::create(tokenizer, encode_text(*tokenizer, "As JSON:"));
      REQUIRE(stream.ok());
      generate(*tokenizer, std::move(*stream), 300, 1, random, work);
    }
    MESSAGE(name << ": " << tokenizer->n_vocab() << " tokens of " << n_bytes << " bytes; a step "
                 << "asks about " << work.n_asked / work.n_steps << " bytes, at most "
                 << work.n_most_asked << ", in " << work.ns / work.n_steps / 1000 << " us; made in "
                 << making_ns / 1000 << " us");
    // What tokens begin with alike is looked at once, and string content not at all.
    CHECK(work.n_most_asked < n_bytes / 32 + 512);
    CHECK(work.n_asked / work.n_steps < n_bytes / 64 + 256);
  }
}

TEST_CASE("JSON vocabulary: what an object cannot be closed without") {
  CHECK(without_byte("@")->json_vocabulary().check_closing(1000).ok());
  for (const char byte : JsonAutomaton::kClosingBytes) {
    const auto tokenizer = without_byte(std::string(1, byte));
    const Status status = tokenizer->json_vocabulary().check_closing(1000);
    CHECK(status.code() == StatusCode::kUnsupportedModel);
    char expected[32];
    snprintf(expected, sizeof expected, "none for 0x%02X", static_cast<unsigned>(byte));
    CHECK(status.message().find(expected) != std::string::npos);
  }
  // Logits of fewer tokens than the tokenizer has.
  CHECK(without_byte("@")->json_vocabulary().check_closing(50).code() ==
        StatusCode::kUnsupportedModel);
}

TEST_CASE("JSON vocabulary: many threads get the same one") {
  const auto tokenizer = load_tokenizer(model_paths()[1]);
  std::vector<const JsonVocabulary*> found(8);
  std::vector<std::thread> threads;
  for (auto& place : found)
    threads.emplace_back([&place, &tokenizer] { place = &tokenizer->json_vocabulary(); });
  for (std::thread& thread : threads)
    thread.join();
  CHECK(std::count(found.begin(), found.end(), &tokenizer->json_vocabulary()) == 8);
}

}  // namespace flexq::test
