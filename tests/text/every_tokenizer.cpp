#include "text/every_tokenizer.h"

#include <algorithm>
#include <map>

#include "base/json.h"
#include "support/synthetic_byte_level.h"
#include "text/tiktoken_model.h"
#include "text/tokenizer_json.h"

namespace flexq::test {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::shared_ptr<const Tokenizer> make_tokenizer(Result<TokenizerData> data) {
  REQUIRE_MESSAGE(data.ok(), data.status().message());
  auto tokenizer = Tokenizer::create(std::move(data).value());
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  return *tokenizer;
}

}  // namespace

std::shared_ptr<const Tokenizer> tiktoken_tokenizer(const std::string& model,
                                                    const std::string& name) {
  return make_tokenizer(read_tiktoken_model(model, {}, name));
}

std::shared_ptr<const Tokenizer> json_tokenizer(const std::string& json, const std::string& name) {
  return make_tokenizer(read_tokenizer_json(json, name));
}

std::string character_bpe_json(const TokenizerData& model) {
  struct Split {
    float score;
    std::string left;
    std::string right;
  };
  std::map<std::string, int32_t> ids;
  std::vector<Split> splits;
  OrderedJson vocabulary = OrderedJson::object();
  for (int32_t id = 0; id < model.n_vocab(); ++id) {
    const std::string piece(model.piece(id));
    vocabulary[piece] = id;
    if (model.types[static_cast<size_t>(id)] == PieceType::kNormal) ids[piece] = id;
  }
  for (const auto& [piece, id] : ids) {
    const size_t first = splits.size();
    for (size_t n = 1; n < piece.size(); ++n)
      if (ids.count(piece.substr(0, n)) != 0 && ids.count(piece.substr(n)) != 0)
        splits.push_back(
            {model.scores[static_cast<size_t>(id)], piece.substr(0, n), piece.substr(n)});
    std::sort(splits.begin() + static_cast<long>(first), splits.end(),
              [&](const Split& a, const Split& b) {
                return std::pair(ids[a.left], ids[a.right]) < std::pair(ids[b.left], ids[b.right]);
              });
  }
  std::stable_sort(splits.begin(), splits.end(),
                   [](const Split& a, const Split& b) { return a.score > b.score; });
  OrderedJson merges = OrderedJson::array();
  for (const Split& split : splits)
    merges.push_back(OrderedJson::array({split.left, split.right}));
  OrderedJson added = OrderedJson::array();
  for (const char* token : {"<unk>", "<s>", "</s>"})
    added.push_back({{"id", added.size()}, {"content", token}, {"special", true}});
  const OrderedJson prepend = {{"type", "Prepend"}, {"prepend", "\xE2\x96\x81"}};
  const OrderedJson replace = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\xE2\x96\x81"}};
  const OrderedJson begin = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const OrderedJson text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const OrderedJson file = {
      {"added_tokens", added},
      {"normalizer",
       {{"type", "Sequence"}, {"normalizers", OrderedJson::array({prepend, replace})}}},
      {"post_processor",
       {{"type", "TemplateProcessing"}, {"single", OrderedJson::array({begin, text})}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", model.byte_fallback},
        {"vocab", vocabulary},
        {"merges", merges}}}};
  return file.dump();
}

std::vector<NamedTokenizer> every_tokenizer() {
  std::vector<NamedTokenizer> all;
  for (const std::string& path : model_paths())
    all.push_back({path, load_tokenizer(path)});
  const auto wiki = load_tokenizer(source_path("tests/data/wiki-tiny-1m/tokenizer.model"));
  all.push_back({"character BPE of wiki-tiny-1m",
                 json_tokenizer(character_bpe_json(wiki->data()), "wiki.json")});
  all.push_back({"synthetic ranks",
                 tiktoken_tokenizer(synthetic_tiktoken_model(kSyntheticByteLevelVocab), "ranks")});
  all.push_back({"synthetic tokenizer.json",
                 json_tokenizer(synthetic_tokenizer_json(kSyntheticByteLevelVocab), "json")});
  for (const char* reference :
       {"tokenizers/llama2/tokenizer.json", "tokenizers/llama3/tokenizer.json"}) {
    const std::string path = reference_path(reference);
    if (!path.empty()) all.push_back({path, json_tokenizer(read_file(path), path)});
  }
  const std::string path = reference_path("tokenizers/llama3/tokenizer.model");
  if (!path.empty()) all.push_back({path, tiktoken_tokenizer(read_file(path), path)});
  case_skipped = false;  // those made from the source tree are tested
  return all;
}

}  // namespace flexq::test
