// What of tokenizer.json is taken, and what is refused by name.
#include "text/tokenizer_json.h"

#include <doctest/doctest.h>

#include "base/json.h"
#include "support/synthetic_byte_level.h"
#include "text/damage.h"
#include "text/every_tokenizer.h"

namespace flexq::test {
namespace {

using TestJson = nlohmann::ordered_json;

const TestJson& byte_level_json() {
  static const TestJson json = TestJson::parse(synthetic_tokenizer_json(520));
  return json;
}

const TestJson& character_json() {
  static const TestJson json = TestJson::parse(character_bpe_json(
      load_tokenizer(source_path("samples/data/stories260k/tokenizer.model"))->data()));
  return json;
}

// The file with one place replaced: an RFC 6901 pointer and a value in JSON.
std::string patched(TestJson json, const char* pointer, const char* value) {
  json[TestJson::json_pointer(pointer)] = TestJson::parse(value);
  return json.dump();
}

struct Refusal {
  const char* pointer;
  const char* value;
  const char* message;  // after "j: "
};

void expect_refused(const TestJson& json, StatusCode code, std::initializer_list<Refusal> cases) {
  REQUIRE(read_tokenizer_json(json.dump(), "j").ok());
  for (const Refusal& refusal : cases) {
    CAPTURE(refusal.pointer);
    CAPTURE(refusal.value);
    const Status status =
        read_tokenizer_json(patched(json, refusal.pointer, refusal.value), "j").status();
    CHECK(status.code() == code);
    CHECK(status.message() == std::string("j: ") + refusal.message);
  }
}

void expect_taken(const TestJson& json,
                  std::initializer_list<std::pair<const char*, const char*>> cases) {
  for (const auto& entry : cases) {
    const char* pointer = entry.first;
    const char* value = entry.second;
    CAPTURE(pointer);
    CAPTURE(value);
    const Status status = read_tokenizer_json(patched(json, pointer, value), "j").status();
    CHECK_MESSAGE(status.ok(), status.message());
  }
}

Result<TokenizerData> read_json(std::span<const uint8_t> bytes) {
  return read_tokenizer_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                             "damaged");
}

}  // namespace

TEST_CASE("byte-level files that ask for something else are refused by name") {
  const char* const nested = R"([{"type": "Sequence", "normalizers": []}])";
  expect_refused(
      byte_level_json(), StatusCode::kUnsupportedModel,
      {{"/model/type", R"("Unigram")", "model 'Unigram': not supported"},
       {"/model/type", R"("WordPiece")", "model 'WordPiece': not supported"},
       {"/model/dropout", "0.1", "model: dropout: not supported"},
       {"/model/end_of_word_suffix", R"("</w>")", "model: end_of_word_suffix: not supported"},
       {"/model/byte_fallback", "true", "model: byte_fallback of byte-level BPE: not supported"},
       {"/normalizer", R"({"type": "NFC"})", "normalizer 'NFC': not supported"},
       {"/normalizer", R"({"type": "Sequence", "normalizers": [{}]})",
        "normalizer without a type: not supported"},
       {"/pre_tokenizer", R"({"type": "Whitespace"})", "pre_tokenizer 'Whitespace': not supported"},
       {"/pre_tokenizer", "null", "normalizer: none beside no pre_tokenizer: not supported"},
       {"/pre_tokenizer/pretokenizers/0/type", R"("Digits")",
        "pre_tokenizer 'Digits': not supported"},
       {"/pre_tokenizer/pretokenizers/0/pattern", R"({"String": " "})",
        "pre_tokenizer Split: a pattern that is no Regex: not supported"},
       {"/pre_tokenizer/pretokenizers/0/behavior", R"("Removed")",
        "pre_tokenizer Split: a behavior other than Isolated: not supported"},
       {"/pre_tokenizer/pretokenizers/0/invert", "true",
        "pre_tokenizer Split: invert: not supported"},
       {"/pre_tokenizer/pretokenizers/1/add_prefix_space", "true",
        "pre_tokenizer ByteLevel: add_prefix_space: not supported"},
       {"/pre_tokenizer/pretokenizers/1/use_regex", "true",
        "pre_tokenizer ByteLevel: use_regex behind Split: not supported"},
       {"/decoder", R"({"type": "WordPiece"})", "decoder 'WordPiece': not supported"},
       {"/post_processor", R"({"type": "BertProcessing"})",
        "post_processor 'BertProcessing': not supported"},
       {"/added_tokens/3/lstrip", "true",
        "added_tokens[3]: added token '<|reserved_special_token_1|>' has lstrip; only tokens that "
        "do not depend on the text around them are supported"},
       {"/added_tokens/3/single_word", "true",
        "added_tokens[3]: added token '<|reserved_special_token_1|>' has single_word; only tokens "
        "that do not depend on the text around them are supported"}});
  CHECK(
      read_tokenizer_json(
          patched(byte_level_json(), "/normalizer",
                  (std::string(R"({"type": "Sequence", "normalizers": )") + nested + "}").c_str()),
          "j")
          .status()
          .message() == "j: normalizer 'Sequence': not supported");
}

TEST_CASE("character files that ask for something else are refused by name") {
  expect_refused(
      character_json(), StatusCode::kUnsupportedModel,
      {{"/normalizer", "null", "normalizer: none beside no pre_tokenizer: not supported"},
       {"/normalizer/normalizers/0/prepend", R"("x")", "normalizer 'Prepend': not supported"},
       {"/normalizer/normalizers/1/content", R"("_")", "normalizer 'Replace': not supported"},
       {"/normalizer/normalizers/1", R"({"type": "Lowercase"})",
        "normalizer 'Lowercase': not supported"},
       {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "▁", "split": false,
                              "prepend_scheme": "always"})",
        "normalizer: one beside Metaspace: not supported"},
       {"/decoder", R"({"type": "ByteLevel"})", "decoder 'ByteLevel': not supported"},
       {"/model/unk_token", "null",
        "model.unk_token: expected a token of the vocabulary, found ''"},
       {"/model/unk_token", R"("none")",
        "model.unk_token: expected a token of the vocabulary, found 'none'"}});
  TestJson metaspace = character_json();
  metaspace["normalizer"] = nullptr;
  metaspace["pre_tokenizer"] = {{"type", "Metaspace"},
                                {"replacement", "\xE2\x96\x81"},
                                {"prepend_scheme", "first"},
                                {"split", false}};
  expect_refused(metaspace, StatusCode::kUnsupportedModel,
                 {{"/pre_tokenizer/split", "true", "pre_tokenizer Metaspace: split: not supported"},
                  {"/pre_tokenizer/split", "null", "pre_tokenizer Metaspace: split: not supported"},
                  {"/pre_tokenizer/replacement", R"("_")",
                   "pre_tokenizer Metaspace: a replacement other than U+2581: not supported"},
                  {"/pre_tokenizer/prepend_scheme", R"("last")",
                   "pre_tokenizer Metaspace: a prepend_scheme other than always, first and never: "
                   "not supported"}});
}

TEST_CASE("parts that do not fit together are refused by name") {
  expect_refused(
      byte_level_json(), StatusCode::kCorrupt,
      {{"/model", "[]", "model: expected an object"},
       {"/model/vocab", "{}", "model.vocab: expected tokens with ids"},
       {"/model/vocab/!", "600", "model.vocab: token '!': expected an id of 0 to 263"},
       {"/model/vocab/!", "-1", "model.vocab: token '!': expected an id of 0 to 263"},
       {"/model/vocab/!", "1.0", "model.vocab: token '!': expected an id of 0 to 263"},
       {"/model/vocab/!", "1", "model.vocab: '!' and '\"' both have id 1"},
       {"/model/merges", "{}", "model.merges: expected an array"},
       {"/model/merges/1", R"("ab")",
        "model.merges[1]: expected \"left right\" or [\"left\", \"right\"]"},
       {"/model/merges/1", R"("a b c")",
        "model.merges[1]: expected \"left right\" or [\"left\", \"right\"]"},
       {"/model/merges/1", R"(["a"])",
        "model.merges[1]: expected \"left right\" or [\"left\", \"right\"]"},
       {"/model/merges/1", R"("a zz")", "model.merges[1]: token 'zz' is not in the vocabulary"},
       {"/model/merges/1", R"(["a ", "b"])",
        "model.merges[1]: token 'a ' is not in the vocabulary"},
       {"/model/merges/1", R"("z z")",
        "merge 1 of 'z' and 'z': the vocabulary has no normal piece 'zz'"},
       {"/added_tokens/255/id", "600",
        "added token '<|reserved_special_token_250|>' has id 600, but there is none of id 519"},
       {"/added_tokens/1/id", "264", "added_tokens: id 264 is listed twice"},
       {"/added_tokens/1/id", "-1", "added_tokens[1]: expected an id of 0 to 1048575"},
       {"/added_tokens/1/content", "5", "added_tokens[1].content: expected a string"},
       {"/added_tokens/1/content", R"("")", "added_tokens[1].content: expected some text"},
       {"/added_tokens/1/special", "1", "added_tokens[1].special: expected true or false"},
       {"/added_tokens/1/content", R"("<|eot_id|>")",
        "vocabulary: piece 273, '<|eot_id|>', appears twice"},
       {"/post_processor/single", "[]", "post_processor.single: expected a template"},
       {"/post_processor/single/0/SpecialToken/id", R"("<s>")",
        "post_processor: '<s>' is not a special token of the vocabulary"}});
  TestJson renamed = byte_level_json();
  renamed["model"]["vocab"].erase("!");
  renamed["model"]["vocab"]["\xE2\x96\x81"] = 0;
  CHECK(read_tokenizer_json(renamed.dump(), "j").status().message() ==
        "j: model.vocab: token '\xE2\x96\x81' is not spelled in the alphabet of ByteLevel");
  CHECK(read_tokenizer_json("{}", "j").status().message() == "j: model: expected an object");
  CHECK(read_tokenizer_json("[1", "j").status().code() == StatusCode::kCorrupt);
}

TEST_CASE("variants of the same tokenizer are taken") {
  expect_taken(
      byte_level_json(),
      {{"/truncation", R"({"max_length": 512})"},
       {"/decoder", "null"},
       {"/model/dropout", "0.0"},
       {"/model/end_of_word_suffix", R"("")"},
       {"/model/merges/0", R"(["Ġ", "Ġ"])"},
       {"/model/unk_token", R"("<|end_of_text|>")"},
       {"/pre_tokenizer", R"({"type": "ByteLevel", "add_prefix_space": false})"},
       {"/post_processor", R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}]})"}});
  expect_taken(character_json(), {{"/decoder", R"({"type": "Sequence", "decoders": [
                    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                    {"type": "ByteFallback"}, {"type": "Fuse"},
                    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})"}});

  const auto without_bos = read_tokenizer_json(
      patched(byte_level_json(), "/post_processor", R"({"type": "ByteLevel"})"), "j");
  REQUIRE(without_bos.ok());
  CHECK_FALSE(without_bos->add_bos);
  CHECK(without_bos->bos_id == -1);
  // GPT-2's own pattern, where none is given.
  const auto gpt2 = json_tokenizer(
      patched(byte_level_json(), "/pre_tokenizer",
              R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})"),
      "j");
  CHECK(gpt2->data().split_pattern.starts_with("'s|'t|'re"));
}

TEST_CASE("added tokens that are not special are found in any text") {
  TestJson json = byte_level_json();
  json["added_tokens"][10]["content"] = "[TOOL]";
  json["added_tokens"][10]["special"] = false;
  json["added_tokens"][11]["content"] = "<|im_start|>";
  json["added_tokens"][11]["special"] = false;
  const auto tokenizer = json_tokenizer(json.dump(), "j");
  const std::vector<int32_t> ids =
      encode_text(*tokenizer, "a[TOOL]b<|im_start|>", {.add_bos = false});
  REQUIRE(ids.size() > 4);
  CHECK(ids[1] == 264 + 10);
  // Role markers are special whatever the file says.
  CHECK(std::find(ids.begin(), ids.end(), 264 + 11) == ids.end());
  CHECK(decode_ids(*tokenizer, ids) == "a[TOOL]b<|im_start|>");
  CHECK(encode_text(*tokenizer, "<|im_start|>", {.add_bos = false, .parse_special = true}) ==
        std::vector<int32_t>{264 + 11});
}

TEST_CASE("damaged tokenizer.json ends in a status or in a tokenizer that works") {
  TestJson json = byte_level_json();
  auto& added = json["added_tokens"];
  added.erase(added.begin() + 12, added.end());
  for (const std::string& text : {json.dump(), character_json().dump()}) {
    const size_t step = 1 + text.size() / 300;
    CHECK(use_truncations(as_bytes(text), step, read_json) == 0);
    use_random_damage(as_bytes(text), 1000, read_json);
  }
}

}  // namespace flexq::test
