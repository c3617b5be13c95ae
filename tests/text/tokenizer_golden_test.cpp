// Recorded ids and texts, and what the Tokenizer class adds to its encoder.
#include <doctest/doctest.h>

#include <cstring>

#include "base/json.h"
#include "text/every_tokenizer.h"
#include "text/published_vectors.h"

namespace flexq::test {
namespace {

void check_golden(const Tokenizer& tokenizer, const std::string& path) {
  auto golden = parse_json(read_file(path), path);
  REQUIRE_MESSAGE(golden.ok(), golden.status().message());
  REQUIRE(golden->root().size() > 5);
  for (const Json& entry : golden->root()) {
    const std::string text = entry["text"].get<std::string>();
    CAPTURE(text);
    const auto ids = entry["ids"].get<std::vector<int32_t>>();
    CHECK(encode_text(tokenizer, text) == ids);
    CHECK(decode_ids(tokenizer, ids) == entry["decoded"].get<std::string>());
  }
}

// A whole file tokenised at once, BOS in front.
void check_token_file(const Tokenizer& tokenizer, const std::string& text_path,
                      const std::string& ids_path) {
  const std::string text = read_file(text_path);
  const std::string recorded = read_file(ids_path);
  std::vector<int32_t> expected(recorded.size() / 4);
  std::memcpy(expected.data(), recorded.data(), expected.size() * 4);
  const std::vector<int32_t> ids = encode_text(tokenizer, text);
  REQUIRE(ids.size() == expected.size());
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] != expected[i]) FAIL("id " << i << ": " << ids[i] << ", expected " << expected[i]);
  CHECK(decode_ids(tokenizer, ids) == text);
}

}  // namespace

TEST_CASE("recorded ids of wiki-tiny-1m") {
  const auto tokenizer = load_tokenizer(source_path("tests/data/wiki-tiny-1m/tokenizer.model"));
  check_golden(*tokenizer, source_path("tests/data/wiki-tiny-1m-golden/tokenizer.json"));
  const std::string ids = reference_path("golden/wiki-tiny-1m/wikitext2-test.tokens.i32");
  const std::string text = reference_path("text/wiki.test.raw");
  if (ids.empty() || text.empty()) return;
  check_token_file(*tokenizer, text, ids);
}

TEST_CASE("recorded ids of wiki-llama2-28m") {
  const std::string model = reference_path("models/wiki-llama2-28m/tokenizer.model");
  const std::string golden = reference_path("golden/wiki-llama2-28m/tokenizer.json");
  const std::string ids = reference_path("golden/wiki-llama2-28m/wikitext2-test.tokens.i32");
  const std::string text = reference_path("text/wiki.test.raw");
  if (model.empty() || golden.empty() || ids.empty() || text.empty()) return;
  const auto tokenizer = load_tokenizer(model);
  check_golden(*tokenizer, golden);
  check_token_file(*tokenizer, text, ids);
}

TEST_CASE("published vectors of the LLaMA-2 tokenizer, from both of its files") {
  const std::string model = reference_path("tokenizers/llama2/tokenizer.model");
  const std::string json = reference_path("tokenizers/llama2/tokenizer.json");
  const std::string folder = reference_path("tokenizers/llama2");
  if (model.empty() || json.empty() || folder.empty()) return;
  check_published_vectors(*load_tokenizer(model), folder);
  check_published_vectors(*json_tokenizer(read_file(json), json), folder);
}

TEST_CASE("decode is the inverse of encode") {
  for (const auto& entry : every_tokenizer()) {
    const auto& name = entry.name;
    const auto& tokenizer = entry.tokenizer;
    CAPTURE(name);
    const bool is_byte_level = tokenizer->data().kind == TokenizerKind::kByteLevelBpe;
    if (tokenizer->data().remove_extra_whitespaces) continue;
    RandomText random(*tokenizer, 11);
    for (int i = 0; i < 500; ++i) {
      for (const auto kind : {RandomText::kPieces, RandomText::kCharacters, RandomText::kSpaces}) {
        const std::string text = random.make(kind, 40);
        if (!is_byte_level && text.find(kSpaceSymbol) != text.npos) continue;  // a space
        REQUIRE(decode_ids(*tokenizer, encode_text(*tokenizer, text)) == text);
      }
    }
  }
}

TEST_CASE("control pieces in a text become ids only on request") {
  const auto tokenizer = load_tokenizer(source_path("tests/data/wiki-tiny-1m/tokenizer.model"));
  const auto plain = [&](const char* text) {
    return encode_text(*tokenizer, text, {.add_bos = false});
  };
  const EncodeOptions special{.add_bos = false, .parse_special = true};
  std::vector<int32_t> expected = plain("Hello");
  expected.push_back(tokenizer->eos_id());
  expected.push_back(tokenizer->bos_id());
  for (const int32_t id : plain(" world <s"))
    expected.push_back(id);
  CHECK(encode_text(*tokenizer, "Hello</s><s> world <s", special) == expected);
  CHECK(encode_text(*tokenizer, "<s>", special) == std::vector<int32_t>{tokenizer->bos_id()});
  CHECK(encode_text(*tokenizer, "<unk>", special) == plain("<unk>"));

  const std::vector<int32_t> text_ids = plain("Hello</s><s> world");
  for (const int32_t id : text_ids)
    CHECK(id > tokenizer->eos_id());
  CHECK(decode_ids(*tokenizer, text_ids) == "Hello</s><s> world");
}

TEST_CASE("single tokens") {
  const auto tokenizer = load_tokenizer(source_path("tests/data/wiki-tiny-1m/tokenizer.model"));
  CHECK(tokenizer->n_vocab() == 2048);
  CHECK(tokenizer->bos_id() == 1);
  CHECK(tokenizer->eos_id() == 2);
  CHECK(tokenizer->unk_id() == 0);
  CHECK(tokenizer->pad_id() == -1);
  CHECK(tokenizer->id_of("<s>") == 1);
  CHECK(tokenizer->id_of("no such piece") == -1);
  CHECK(tokenizer->id_of("") == -1);
  CHECK(tokenizer->piece_bytes(1) == "");
  CHECK(tokenizer->piece_bytes(0) == " \xE2\x81\x87 ");
  CHECK(tokenizer->piece_bytes(tokenizer->id_of("<0x80>")) == "\x80");
  CHECK(tokenizer->piece_bytes(tokenizer->id_of("\xE2\x96\x81the")) == " the");
  CHECK(tokenizer->piece_bytes(-1) == "");
  CHECK(tokenizer->piece_bytes(2048) == "");
  for (int32_t id = 0; id < tokenizer->n_vocab(); ++id)
    REQUIRE(tokenizer->id_of(tokenizer->data().piece(id)) == id);
  for (const int32_t id : {-1, 2048}) {
    const std::vector<int32_t> ids = {1, id};
    CHECK(tokenizer->decode(ids).status().code() == StatusCode::kInvalidArgument);
  }
  CHECK(encode_text(*tokenizer, "") == std::vector<int32_t>{1});
  CHECK(encode_text(*tokenizer, "", {.add_bos = false}).empty());
}

}  // namespace flexq::test
