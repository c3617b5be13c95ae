// Folders with tokenizer files: which file is read, and what the files beside it change.
#include "text/tokenizer_files.h"

#include <doctest/doctest.h>

#include <fstream>

#include "base/json.h"
#include "support/synthetic_byte_level.h"
#include "support/synthetic_tokenizer.h"
#include "text/every_tokenizer.h"
#include "text/tokenizer_config.h"

namespace flexq::test {
namespace {

using TestFiles = std::map<std::string, std::string>;

Result<TokenizerFiles> read_folder(const TestFiles& files) {
  const TemporaryDirectory directory;
  for (const auto& [name, content] : files)
    std::ofstream(directory.file(name), std::ios::binary) << content;
  auto read = read_tokenizer_directory(directory.path());
  if (read.ok()) return read;
  // Folders have random names; messages begin with them.
  std::string message = read.status().message();
  if (message.starts_with(directory.path())) message.erase(0, directory.path().size());
  return Status::error(read.status().code(), "%s", message.c_str());
}

TokenizerFiles read_ok(const TestFiles& files) {
  auto read = read_folder(files);
  REQUIRE_MESSAGE(read.ok(), read.status().message());
  return std::move(read).value();
}

void expect_refused(const TestFiles& files, StatusCode code, const std::string& message) {
  const Status status = read_folder(files).status();
  CHECK(status.code() == code);
  CHECK(status.message() == message);
}

constexpr int32_t kVocab = 520;

TestFiles with_config(const std::string& config) {
  return {{"tokenizer.model", synthetic_tokenizer_model(kVocab)},
          {"tokenizer_config.json", config}};
}

}  // namespace

TEST_CASE("the kind of a tokenizer file follows from its content") {
  CHECK(read_ok({{"tokenizer.model", synthetic_tokenizer_model(kVocab)}}).data.kind ==
        TokenizerKind::kSentencePieceBpe);
  const TokenizerFiles ranks = read_ok({{"tokenizer.model", synthetic_tiktoken_model(kVocab)}});
  CHECK(ranks.data.kind == TokenizerKind::kByteLevelBpe);
  CHECK(ranks.data.merge_by_id);
  CHECK_FALSE(ranks.chat_template);
  const TokenizerFiles json = read_ok({{"tokenizer.json", synthetic_tokenizer_json(kVocab)}});
  CHECK(json.data.kind == TokenizerKind::kByteLevelBpe);
  CHECK_FALSE(json.data.merge_by_id);
  // tokenizer.model wins.
  CHECK(read_ok({{"tokenizer.model", synthetic_tiktoken_model(kVocab)},
                 {"tokenizer.json", synthetic_tokenizer_json(kVocab)}})
            .data.merge_by_id);

  expect_refused({{"tokenizer_config.json", "{}"}}, StatusCode::kNotFound,
                 ": expected a tokenizer.model or a tokenizer.json, found neither");
  expect_refused({{"tokenizer.model", ""}}, StatusCode::kUnsupportedModel,
                 "/tokenizer.model: a SentencePiece unigram model (model_type 1); only BPE (2) is "
                 "supported");
  expect_refused({{"tokenizer.model", "{}"}}, StatusCode::kCorrupt,
                 "/tokenizer.model: byte 0: an unknown wire type");
}

TEST_CASE("the config's tokens replace those of the vocabulary's file") {
  const TokenizerFiles plain = read_ok(with_config("{}"));
  CHECK(plain.data.bos_id == 1);
  CHECK(plain.data.eos_id == 2);
  CHECK(plain.data.add_bos);
  const TokenizerFiles changed = read_ok(with_config(
      R"({"add_bos_token": false, "bos_token": {"content": "<s>"}, "eos_token": "<|im_end|>",
          "pad_token": "<unk>", "added_tokens_decoder": {
            "0": {"content": "<unk>", "special": true}, "1": {"content": "<s>", "special": true},
            "521": {"content": "<|im_end|>", "special": false},
            "520": {"content": "<|im_start|>", "special": true}}})"));
  CHECK_FALSE(changed.data.add_bos);
  CHECK(changed.data.n_vocab() == 522);
  CHECK(changed.data.piece(520) == "<|im_start|>");
  CHECK(changed.data.types[520] == PieceType::kControl);
  CHECK(changed.data.types[521] == PieceType::kControl);
  CHECK(changed.data.types[0] == PieceType::kUnknown);
  CHECK(changed.data.bos_id == 1);
  CHECK(changed.data.eos_id == 521);
  CHECK(changed.data.pad_id == 0);

  const auto unsupported = StatusCode::kUnsupportedModel;
  const auto corrupt = StatusCode::kCorrupt;
  expect_refused(with_config(R"({"eos_token": "</end>"})"), unsupported,
                 "/tokenizer_config.json: eos_token '</end>' is not in the vocabulary");
  expect_refused(with_config(R"({"eos_token": 5})"), corrupt,
                 "/tokenizer_config.json: eos_token: expected a string or an object with content");
  expect_refused(with_config(R"({"add_bos_token": "yes"})"), corrupt,
                 "/tokenizer_config.json: add_bos_token: expected true or false");
  expect_refused(with_config(R"({"eos_token": "<0x41>"})"), corrupt,
                 ": tokenizer: EOS id 68 is '<0x41>' of type 6, expected a control piece");
  expect_refused(
      with_config(R"({"added_tokens_decoder": {"x": {"content": "y"}}})"), corrupt,
      "/tokenizer_config.json: added_tokens_decoder 'x': expected an id of 0 to 1048575");
  expect_refused(with_config(R"({"added_tokens_decoder": {"1": {"content": "<bos>"}}})"), corrupt,
                 "/tokenizer_config.json: added token 1 is '<bos>', but '<s>' in the vocabulary");
  expect_refused(with_config("[]"), corrupt, "/tokenizer_config.json: expected an object");
  CHECK(read_folder(with_config("{")).status().code() == corrupt);
}

TEST_CASE("added tokens come from the config or else from tokenizer.json") {
  nlohmann::json json = nlohmann::json::parse(synthetic_tokenizer_json(kVocab));
  json["added_tokens"][4]["content"] = "<|finetune_right_pad_id|>";
  const TestFiles both = {{"tokenizer.model", synthetic_tiktoken_model(kVocab)},
                          {"tokenizer.json", json.dump()}};
  CHECK(read_ok(both).data.piece(268) == "<|finetune_right_pad_id|>");
  TestFiles all = both;
  all["tokenizer_config.json"] =
      R"({"eos_token": "<|eot_id|>",
          "added_tokens_decoder": {"268": {"content": "<|pad|>", "special": true}}})";
  const TokenizerFiles read = read_ok(all);
  CHECK(read.data.piece(268) == "<|pad|>");
  CHECK(read.data.eos_id == 273);
}

TEST_CASE("the chat template is a string, one of a list, or a file") {
  const auto chat_template = [](const std::string& config) {
    return read_ok(with_config(config)).chat_template.value_or("none");
  };
  CHECK(chat_template("{}") == "none");
  CHECK(chat_template(R"({"chat_template": null})") == "none");
  CHECK(chat_template(R"({"chat_template": "{{ x }}"})") == "{{ x }}");
  CHECK(chat_template(R"({"chat_template": [{"name": "rag", "template": "a"},
                                            {"name": "default", "template": "b"}]})") == "b");
  CHECK(chat_template(R"({"chat_template": [{"name": "rag", "template": "a"}]})") == "none");
  for (const char* config : {R"({"chat_template": 5})", R"({"chat_template": [5]})",
                             R"({"chat_template": [{"name": "default"}]})"})
    CHECK(read_folder(with_config(config)).status().code() == StatusCode::kCorrupt);

  TestFiles files = with_config(R"({"chat_template": "a"})");
  files["chat_template.jinja"] = "from the file";
  CHECK(read_ok(files).chat_template == "from the file");
  files["chat_template.jinja"] = "\xFF";
  expect_refused(files, StatusCode::kCorrupt, "/chat_template.jinja: not valid UTF-8");
}

TEST_CASE("folders of the published tokenizers") {
  for (const char* reference : {"tokenizers/llama2", "tokenizers/llama3"}) {
    const std::string path = reference_path(reference);
    if (path.empty()) continue;
    auto files = read_tokenizer_directory(path);
    REQUIRE_MESSAGE(files.ok(), files.status().message());
    CHECK(files->data.add_bos);
    CHECK(Tokenizer::create(std::move(files->data)).ok());
  }
}

}  // namespace flexq::test
