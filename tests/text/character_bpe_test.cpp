// Character BPE from tokenizer.json against the SentencePiece model that it was made from.
#include <doctest/doctest.h>

#include "text/every_tokenizer.h"
#include "text/tokenizer_json.h"

namespace flexq::test {
namespace {

void compare_on_random_texts(const Tokenizer& json, const Tokenizer& model, int n_rounds) {
  RandomText random(model, 17);
  for (int round = 0; round < n_rounds; ++round) {
    for (int kind = 0; kind < RandomText::kNumKinds; ++kind) {
      const std::string text = random.make(static_cast<RandomText::Kind>(kind), 40);
      CAPTURE(text);
      const std::vector<int32_t> ids = encode_text(model, text);
      REQUIRE(encode_text(json, text) == ids);
      REQUIRE(decode_ids(json, ids) == decode_ids(model, ids));
    }
    const std::vector<int32_t> ids = random.make_ids(20);
    REQUIRE(decode_ids(json, ids) == decode_ids(model, ids));
  }
}

// A vocabulary of letters with "▁", and the pre_tokenizer or normalizer under test.
std::shared_ptr<const Tokenizer> with_rules(const char* normalizer, const char* pre_tokenizer,
                                            bool fuse_unk = true) {
  const std::string json = std::string(R"({"normalizer": )") + normalizer +
                           R"(, "pre_tokenizer": )" + pre_tokenizer + R"(, "added_tokens": [
      {"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true},
      {"id": 5, "content": "[X]", "special": false}],
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": )" +
                           (fuse_unk ? "true" : "false") + R"(, "merges": ["▁ a"],
      "vocab": {"<unk>": 0, "<s>": 1, "▁": 2, "a": 3, "▁a": 4}}})";
  return json_tokenizer(json, "json");
}

constexpr char kReplace[] = R"({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})";
constexpr char kPrepend[] =
    R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
       {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})";

std::string metaspace(const char* scheme) {
  return std::string(R"({"type": "Metaspace", "replacement": "▁", "split": false,
                         "prepend_scheme": ")") +
         scheme + "\"}";
}

using Ids = std::vector<int32_t>;

}  // namespace

TEST_CASE("tokenizer.json gives the ids of the SentencePiece model it was made from") {
  const auto model = load_tokenizer(source_path("tests/data/wiki-tiny-1m/tokenizer.model"));
  compare_on_random_texts(*json_tokenizer(character_bpe_json(model->data()), "wiki.json"), *model,
                          400);
  const std::string model_path = reference_path("tokenizers/llama2/tokenizer.model");
  const std::string json_path = reference_path("tokenizers/llama2/tokenizer.json");
  if (model_path.empty() || json_path.empty()) return;
  const auto llama = load_tokenizer(model_path);
  const auto llama_json = json_tokenizer(read_file(json_path), json_path);
  CHECK(llama_json->data().piece_bytes == llama->data().piece_bytes);
  CHECK(llama_json->data().types == llama->data().types);
  CHECK(llama_json->bos_id() == 1);
  CHECK(llama_json->unk_id() == 0);
  CHECK(llama_json->data().add_bos);
  compare_on_random_texts(*llama_json, *llama, 400);
}

TEST_CASE("the space in front follows the normalizer or Metaspace") {
  const EncodeOptions special{.add_bos = false, .parse_special = true};
  const auto ids = [&](const Tokenizer& tokenizer, const char* text) {
    return encode_text(tokenizer, text, special);
  };
  const auto prepend = with_rules(kPrepend, "null");
  CHECK(ids(*prepend, "a") == Ids{4});
  CHECK(ids(*prepend, " a") == Ids{2, 4});
  CHECK(ids(*prepend, "a<s>a") == Ids{4, 1, 4});
  CHECK(ids(*prepend, "a[X]a") == Ids{4, 5, 4});
  CHECK(ids(*prepend, "") == Ids{});
  CHECK(decode_ids(*prepend, Ids{2, 4}) == " a");

  const auto replace = with_rules(kReplace, "null");
  CHECK(ids(*replace, "a a") == Ids{3, 4});
  CHECK(ids(*replace, "a<s>a") == Ids{3, 1, 3});
  CHECK(decode_ids(*replace, Ids{4}) == " a");

  const auto always = with_rules("null", metaspace("always").c_str());
  CHECK(ids(*always, "a") == Ids{4});
  CHECK(ids(*always, " a") == Ids{4});
  CHECK(ids(*always, "▁a") == Ids{4});
  CHECK(ids(*always, "a<s>a[X]a") == Ids{4, 1, 4, 5, 4});

  const auto first = with_rules("null", metaspace("first").c_str());
  CHECK(ids(*first, "a<s>a[X]a") == Ids{4, 1, 3, 5, 3});
  CHECK(ids(*first, "<s>a a") == Ids{1, 3, 4});
  CHECK(ids(*first, "[X]a") == Ids{5, 3});

  const auto never = with_rules("null", metaspace("never").c_str());
  CHECK(ids(*never, "a a") == Ids{3, 4});
}

TEST_CASE("unknown characters are one token each, or one for a run") {
  const EncodeOptions plain{.add_bos = false};
  CHECK(encode_text(*with_rules(kReplace, "null", true), "xya\xFFz", plain) == Ids{0, 3, 0});
  CHECK(encode_text(*with_rules(kReplace, "null", false), "xya\xFFz", plain) == Ids{0, 0, 3, 0, 0});
}

}  // namespace flexq::test
