// Files of ranks: what follows from them, refusals with line numbers, damage.
#include "text/tiktoken_model.h"

#include <doctest/doctest.h>

#include "base/base64.h"
#include "support/synthetic_byte_level.h"
#include "text/byte_alphabet.h"
#include "text/damage.h"
#include "text/llama3_tokens.h"

namespace flexq::test {
namespace {

void expect_refused(const std::string& model, StatusCode code, const std::string& message) {
  const Status status = read_tiktoken_model(model, {}, "m").status();
  CHECK(status.code() == code);
  CHECK(status.message() == message);
}

Result<TokenizerData> read_ranks(std::span<const uint8_t> bytes) {
  return read_tiktoken_model({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, {},
                             "damaged");
}

}  // namespace

TEST_CASE("special tokens follow the ranks in their published order") {
  CHECK(llama3_special_token(0) == "<|begin_of_text|>");
  CHECK(llama3_special_token(1) == "<|end_of_text|>");
  CHECK(llama3_special_token(2) == "<|reserved_special_token_0|>");
  CHECK(llama3_special_token(5) == "<|reserved_special_token_3|>");
  CHECK(llama3_special_token(6) == "<|start_header_id|>");
  CHECK(llama3_special_token(7) == "<|end_header_id|>");
  CHECK(llama3_special_token(8) == "<|reserved_special_token_4|>");
  CHECK(llama3_special_token(9) == "<|eot_id|>");
  CHECK(llama3_special_token(10) == "<|reserved_special_token_5|>");
  CHECK(llama3_special_token(255) == "<|reserved_special_token_250|>");

  const std::string model = synthetic_tiktoken_model(520);
  auto data = read_tiktoken_model(model, {}, "m");
  REQUIRE_MESSAGE(data.ok(), data.status().message());
  CHECK(data->n_vocab() == 520);
  CHECK(data->bos_id == 264);
  CHECK(data->eos_id == 265);
  CHECK(data->add_bos);
  for (int32_t i = 0; i < 256; ++i) {
    CHECK(data->piece(264 + i) == llama3_special_token(i));
    CHECK(data->types[static_cast<size_t>(264 + i)] == PieceType::kControl);
  }
}

TEST_CASE("listed tokens take their places among the special ones") {
  const std::vector<AddedToken> added = {{3, "$", false},
                                         {268, "<|finetune_right_pad_id|>", true},
                                         {272, "<|eom_id|>", false},
                                         {520, "more", false}};
  auto data = read_tiktoken_model(synthetic_tiktoken_model(520), added, "m");
  REQUIRE_MESSAGE(data.ok(), data.status().message());
  CHECK(data->n_vocab() == 521);
  CHECK(data->types[3] == PieceType::kUserDefined);
  CHECK(data->piece(268) == "<|finetune_right_pad_id|>");
  CHECK(data->piece(272) == "<|eom_id|>");
  CHECK(data->types[272] == PieceType::kControl);  // as anything of that form
  CHECK(data->types[520] == PieceType::kUserDefined);

  const auto message = [](std::vector<AddedToken> tokens) {
    return read_tiktoken_model(synthetic_tiktoken_model(520), tokens, "m").status().message();
  };
  CHECK(message({{3, "x", true}}) ==
        "m: added tokens: added token 3 is 'x', but '$' in the vocabulary");
  CHECK(message({{600, "x", true}}) ==
        "m: added tokens: added token 'x' has id 600, but there is none of id 520");
  CHECK(message({{300, "<|eot_id|>", true}}) ==
        "m: vocabulary: piece 300, '<|eot_id|>', appears twice");
}

TEST_CASE("a file of ranks is told by its first line") {
  CHECK(is_tiktoken_model("IQ== 0\nIg== 1\n"));
  CHECK(is_tiktoken_model("IQ== 0"));
  CHECK_FALSE(is_tiktoken_model(""));
  CHECK_FALSE(is_tiktoken_model("\n\x0E\n\x05<unk>"));
  CHECK_FALSE(is_tiktoken_model("{\"model\": 1}"));
  CHECK_FALSE(is_tiktoken_model("IQ== x\n"));
  CHECK_FALSE(is_tiktoken_model(read_file(source_path("tests/data/wiki-tiny-1m/tokenizer.model"))));
}

TEST_CASE("malformed files of ranks are refused with the line") {
  const auto corrupt = StatusCode::kCorrupt;
  const std::string good = synthetic_tiktoken_model(512);
  const std::string line_257 = "m: line 257: expected a token in base64, a space and its rank";
  expect_refused(good + "IQ==256\n", corrupt, line_257);
  expect_refused(good + "IQ== \n", corrupt, line_257);
  expect_refused(good + "IQ== -1\n", corrupt, line_257);
  expect_refused(good + "IQ== 256 \n", corrupt, line_257);
  expect_refused(good + " 256\n", corrupt, line_257);
  expect_refused(good + "IQ= 256\n", corrupt, line_257);
  expect_refused(good + "IR== 256\n", corrupt, line_257);  // bits that no byte holds
  expect_refused(good + "I*== 256\n", corrupt, line_257);
  expect_refused(good + "IWE= 0\n", corrupt, "m: line 257: rank 0 is listed twice");
  expect_refused(good + "IWE= 257\n", corrupt, "m: 257 tokens, expected 258: some rank is missing");
  expect_refused(good + "IQ== 256\n", corrupt, "m: vocabulary: piece 256, '!', appears twice");
  expect_refused("IQ== 0\n", corrupt,
                 "m: vocabulary: byte-level BPE needs a piece for each of 256 bytes, found 1; byte "
                 "0x00 is missing");
  expect_refused(good + "IWE= 1048576\n", StatusCode::kLimitExceeded,
                 "m: line 257: rank 1048576, at most 1048576 tokens are supported");
  CHECK(read_tiktoken_model(good + "\r\nIWE= 256\r\n", {}, "m").ok());
}

TEST_CASE("damaged files of ranks end in a status or in a tokenizer that works") {
  const std::string model = synthetic_tiktoken_model(520);
  use_truncations(as_bytes(model), 7, read_ranks);
  use_bit_flips(as_bytes(model).first(600), read_ranks);
  use_random_damage(as_bytes(model), 2000, read_ranks);
}

TEST_CASE("base64 and the byte alphabet") {
  const auto decoded = [](const char* text) {
    std::string out;
    return decode_base64(text, out) ? out : "refused";
  };
  CHECK(decoded("") == "");
  CHECK(decoded("Zg==") == "f");
  CHECK(decoded("Zm8=") == "fo");
  CHECK(decoded("Zm9v") == "foo");
  CHECK(decoded("/+8=") == "\xFF\xEF");
  for (const char* text : {"Z", "Zg", "Zg=", "====", "Zg==Zg==", "Zh==", "Zm9=", "Zm 9", "Zm9-"})
    CHECK(decoded(text) == "refused");

  const auto bytes = [](const char* text) {
    std::string out;
    return bytes_of_spelling(text, out) ? out : "refused";
  };
  CHECK(bytes("\xC4\xA0the") == " the");
  CHECK(bytes("\xC4\x8A\xC4\x80") == std::string("\n\0", 2));
  CHECK(bytes("\xC3\xA9\xC5\x83") == "\xE9\xAD");
  CHECK(bytes(" ") == "refused");
  CHECK(bytes("\xC5\x84") == "refused");      // U+0144, behind the last
  CHECK(bytes("\xE2\x96\x81") == "refused");  // U+2581
}

}  // namespace flexq::test
