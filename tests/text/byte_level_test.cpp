// Byte-level BPE against the published vectors and against the definition of the merge loop.
#include <doctest/doctest.h>

#include <map>
#include <sstream>

#include "support/synthetic_byte_level.h"
#include "text/every_tokenizer.h"
#include "text/published_vectors.h"
#include "text/split_pattern.h"

namespace flexq::test {
namespace {

// tiktoken's loop, word for word: of all neighbours the union of which is a token, join the
// leftmost with the lowest rank.
class RankOracle {
 public:
  explicit RankOracle(const Tokenizer& tokenizer) {
    const TokenizerData& data = tokenizer.data();
    for (int32_t id = 0; id < data.n_vocab(); ++id)
      if (data.types[static_cast<size_t>(id)] == PieceType::kNormal)
        ranks_[std::string(data.piece(id))] = id;
    auto pattern = SplitPattern::compile(data.split_pattern);
    REQUIRE(pattern.ok());
    pattern_ = std::move(pattern).value();
  }

  std::vector<int32_t> encode(const std::string& text) const {
    std::vector<int32_t> ids;
    TextSplitter splitter(pattern_, text);
    for (;;) {
      auto part = splitter.next();
      REQUIRE(part.ok());
      if (part->empty()) return ids;
      encode_part(std::string(*part), ids);
    }
  }

 private:
  int32_t rank(const std::string& bytes) const {
    const auto found = ranks_.find(bytes);
    return found == ranks_.end() ? -1 : found->second;
  }

  void encode_part(const std::string& part, std::vector<int32_t>& ids) const {
    if (rank(part) >= 0) {
      ids.push_back(rank(part));
      return;
    }
    std::vector<std::string> symbols;
    for (const char byte : part)
      symbols.emplace_back(1, byte);
    for (;;) {
      int32_t best = -1;
      size_t best_at = 0;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const int32_t merged = rank(symbols[i] + symbols[i + 1]);
        if (merged < 0 || (best >= 0 && merged >= best)) continue;
        best = merged;
        best_at = i;
      }
      if (best < 0) break;
      symbols[best_at] += symbols[best_at + 1];
      symbols.erase(symbols.begin() + static_cast<long>(best_at) + 1);
    }
    for (const std::string& symbol : symbols)
      ids.push_back(rank(symbol));
  }

  std::map<std::string, int32_t> ranks_;
  SplitPattern pattern_;
};

void check_against_oracle(const Tokenizer& tokenizer, const Tokenizer& other_form) {
  const RankOracle oracle(tokenizer);
  RandomText random(tokenizer, 3);
  for (int round = 0; round < 400; ++round) {
    for (const auto kind : {RandomText::kPieces, RandomText::kCharacters, RandomText::kSpaces}) {
      const std::string text = random.make(kind, 30);
      CAPTURE(text);
      const std::vector<int32_t> ids = encode_text(tokenizer, text, {.add_bos = false});
      REQUIRE(ids == oracle.encode(text));
      REQUIRE(encode_text(other_form, text, {.add_bos = false}) == ids);
      REQUIRE(decode_ids(tokenizer, ids) == text);
      REQUIRE(decode_ids(other_form, ids) == text);
    }
    const std::string bytes = random.make(RandomText::kBytes, 30);
    const std::vector<int32_t> ids = encode_text(tokenizer, bytes);
    REQUIRE(encode_text(other_form, bytes) == ids);
    REQUIRE(encode_text(tokenizer, replace_invalid_utf8(bytes)) == ids);
  }
}

}  // namespace

TEST_CASE("published vectors of the LLaMA-3 tokenizer, from both of its files") {
  const std::string model = reference_path("tokenizers/llama3/tokenizer.model");
  const std::string json = reference_path("tokenizers/llama3/tokenizer.json");
  const std::string folder = reference_path("tokenizers/llama3");
  if (model.empty() || json.empty() || folder.empty()) return;
  const auto from_model = tiktoken_tokenizer(read_file(model), model);
  const auto from_json = json_tokenizer(read_file(json), json);
  for (const auto& tokenizer : {from_model, from_json}) {
    CHECK(tokenizer->n_vocab() == 128256);
    CHECK(tokenizer->bos_id() == 128000);
    CHECK(tokenizer->data().add_bos);
    CHECK(tokenizer->id_of("<|eot_id|>") == 128009);
    CHECK(tokenizer->id_of("<|start_header_id|>") == 128006);
    CHECK(tokenizer->id_of("<|reserved_special_token_4|>") == 128008);
    CHECK(tokenizer->id_of("<|reserved_special_token_250|>") == 128255);
    check_published_vectors(*tokenizer, folder);
  }
  CHECK(from_model->eos_id() == 128001);
  CHECK(from_model->data().split_pattern == from_json->data().split_pattern);
  CHECK(from_model->data().piece_bytes == from_json->data().piece_bytes);
  CHECK(from_model->data().types == from_json->data().types);
  check_against_oracle(*from_model, *from_json);
}

TEST_CASE("ids equal those of the merge loop's definition, from both forms of a tokenizer") {
  const auto from_model =
      tiktoken_tokenizer(synthetic_tiktoken_model(kSyntheticByteLevelVocab), "ranks");
  const auto from_json =
      json_tokenizer(synthetic_tokenizer_json(kSyntheticByteLevelVocab), "tokenizer.json");
  CHECK(from_model->data().piece_bytes == from_json->data().piece_bytes);
  CHECK(from_model->data().types == from_json->data().types);
  CHECK(from_model->bos_id() == synthetic_special_id(kSyntheticByteLevelVocab, 0));
  CHECK(from_json->bos_id() == from_model->bos_id());
  CHECK(from_json->data().add_bos);
  check_against_oracle(*from_model, *from_json);
}

TEST_CASE("special tokens in a text become ids only on request") {
  const auto tokenizer =
      tiktoken_tokenizer(synthetic_tiktoken_model(kSyntheticByteLevelVocab), "ranks");
  const int32_t first_special = synthetic_special_id(kSyntheticByteLevelVocab, 0);
  const std::string text = "the<|eot_id|> tea<|begin_of_text|>";
  for (const int32_t id : encode_text(*tokenizer, text, {.add_bos = false}))
    CHECK(id < first_special);
  const std::vector<int32_t> ids =
      encode_text(*tokenizer, text, {.add_bos = true, .parse_special = true});
  std::vector<int32_t> expected = {first_special};
  for (const int32_t id : encode_text(*tokenizer, "the", {.add_bos = false}))
    expected.push_back(id);
  expected.push_back(first_special + 9);
  for (const int32_t id : encode_text(*tokenizer, " tea", {.add_bos = false}))
    expected.push_back(id);
  expected.push_back(first_special);
  CHECK(ids == expected);
  CHECK(decode_ids(*tokenizer, ids) == "the tea");
}

TEST_CASE("bytes of tokens are put together to characters") {
  const auto tokenizer =
      tiktoken_tokenizer(synthetic_tiktoken_model(kSyntheticByteLevelVocab), "ranks");
  const auto id = [&](std::string_view bytes) { return tokenizer->id_of(bytes); };
  REQUIRE(id("\xE6\x97") >= 256);
  const std::string replacement = "\xEF\xBF\xBD";
  CHECK(decode_ids(*tokenizer, std::vector{id("\xE6\x97"), id("\xA5")}) == "\xE6\x97\xA5");
  CHECK(decode_ids(*tokenizer, std::vector{id("\xE6\x97"), id("a")}) ==
        replacement + replacement + "a");
  CHECK(decode_ids(*tokenizer, std::vector{id("\xE6\x97"), tokenizer->bos_id(), id("\xA5")}) ==
        replacement + replacement + replacement);
  CHECK(tokenizer->piece_bytes(id("\xE6\x97")) == "\xE6\x97");
  CHECK(tokenizer->piece_bytes(tokenizer->bos_id()).empty());
}

}  // namespace flexq::test
