#include "fuzz/small_tokenizers.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "support/synthetic_byte_level.h"
#include "support/synthetic_tokenizer.h"

namespace flexq::test {
namespace {

using Json = nlohmann::ordered_json;

constexpr int32_t kByteLevelVocab = kMinByteLevelVocab + 30;
constexpr size_t kAddedTokens = 10;  // up to <|eot_id|>

}  // namespace

std::string small_sentencepiece_model() {
  return synthetic_tokenizer_model(kMinSyntheticVocab + 40);
}

std::string small_tiktoken_model() {
  return synthetic_tiktoken_model(kByteLevelVocab);
}

std::string small_byte_level_json() {
  Json file = Json::parse(synthetic_tokenizer_json(kByteLevelVocab));
  Json added = Json::array();
  for (size_t i = 0; i < kAddedTokens; ++i)
    added.push_back({{"id", file["added_tokens"][i]["id"]},
                     {"content", file["added_tokens"][i]["content"]},
                     {"special", true}});
  file["added_tokens"] = added;
  return file.dump();
}

std::string small_character_json() {
  const std::string space = "\xE2\x96\x81";
  Json vocabulary = Json::object();
  for (const char* token : {"<unk>", "<s>", "</s>"})
    vocabulary[token] = vocabulary.size();
  for (unsigned byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    vocabulary[name] = vocabulary.size();
  }
  for (const std::string& token :
       {space, std::string("t"), std::string("h"), std::string("e"), std::string("a"), space + "t",
        std::string("he"), space + "the", std::string("aa"), space + space})
    vocabulary[token] = vocabulary.size();
  const Json merges = Json::array({Json::array({space, "t"}), Json::array({"h", "e"}),
                                   Json::array({space + "t", "he"}), Json::array({"a", "a"}),
                                   Json::array({space, space})});
  Json added = Json::array();
  for (const char* token : {"<unk>", "<s>", "</s>"})
    added.push_back({{"id", added.size()}, {"content", token}, {"special", true}});
  const Json prepend = {{"type", "Prepend"}, {"prepend", space}};
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space}};
  const Json begin = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  return Json{
      {"added_tokens", added},
      {"normalizer", {{"type", "Sequence"}, {"normalizers", Json::array({prepend, replace})}}},
      {"post_processor", {{"type", "TemplateProcessing"}, {"single", Json::array({begin, text})}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"vocab", vocabulary},
        {"merges", merges}}}}
      .dump();
}

}  // namespace flexq::test
