// Bundle segments of byte-level and character BPE: round trips, documented bytes, hostile bytes.
#include "text/tokenizer_segment.h"

#include <doctest/doctest.h>

#include "support/synthetic_byte_level.h"
#include "text/damage.h"
#include "text/every_tokenizer.h"
#include "text/tokenizer_flags.h"

namespace flexq::test {
namespace {

// <unk>, </s> and letters, with two merges.
TokenizerData small_character_bpe() {
  TokenizerData data;
  data.kind = TokenizerKind::kCharacterBpe;
  const auto add = [&data](std::string_view piece, PieceType type) {
    REQUIRE(data.add_piece(piece, 0, type).ok());
  };
  add("<unk>", PieceType::kUnknown);
  add("</s>", PieceType::kControl);
  for (const char* piece : {"a", "b", "ab", "aba"})
    add(piece, PieceType::kNormal);
  data.unk_id = 0;
  data.eos_id = 1;
  data.merges = {{2, 3}, {4, 2}};
  return data;
}

void expect_invalid(const TokenizerData& data, StatusCode code, const std::string& message) {
  const Status status = validate_tokenizer(data);
  CHECK(status.code() == code);
  CHECK(status.message() == message);
}

// The smallest ones there are.
std::vector<std::vector<uint8_t>> small_segments() {
  const auto ranks = tiktoken_tokenizer(synthetic_tiktoken_model(520), "ranks");
  const auto json = json_tokenizer(synthetic_tokenizer_json(520), "json");
  return {serialize(ranks->data()), serialize(json->data()), serialize(small_character_bpe())};
}

}  // namespace

TEST_CASE("a serialized tokenizer of every kind reads back as it was") {
  for (const auto& entry : every_tokenizer()) {
    const auto& name = entry.name;
    const auto& tokenizer = entry.tokenizer;
    CAPTURE(name);
    const TokenizerData& data = tokenizer->data();
    const std::vector<uint8_t> bytes = serialize(data);
    auto back = parse_tokenizer(bytes);
    REQUIRE_MESSAGE(back.ok(), back.status().message());
    CHECK(back->kind == data.kind);
    CHECK(back->piece_bytes == data.piece_bytes);
    CHECK(back->piece_ends == data.piece_ends);
    CHECK(back->scores == data.scores);
    CHECK(back->types == data.types);
    CHECK(back->merges == data.merges);
    CHECK(back->split_pattern == data.split_pattern);
    CHECK(back->unk_surface == data.unk_surface);
    CHECK(back->bos_id == data.bos_id);
    CHECK(back->eos_id == data.eos_id);
    CHECK(back->unk_id == data.unk_id);
    CHECK(back->pad_id == data.pad_id);
    for (const TokenizerOption& option : kTokenizerOptions)
      CHECK((*back).*option.field == data.*option.field);
    CHECK(serialize(*back) == bytes);
  }
}

TEST_CASE("a segment with merges has the documented bytes") {
  const std::vector<uint8_t> expected = {
      1,    0,    0,    0,    3,   0,   0,   0,   0x12, 0,   0,   0,
      6,    0,    0,    0,  // version, kind, flags, n
      0xFF, 0xFF, 0xFF, 0xFF, 1,   0,   0,   0,   0,    0,   0,   0,
      0xFF, 0xFF, 0xFF, 0xFF,                                         // special ids
      0,    0,    0,    0,    16,  0,   0,   0,   2,    0,   0,   0,  // text, pieces, merges
      5,    0,    4,    0,    1,   0,   1,   0,   2,    0,   3,   0,  // lengths
      2,    3,    1,    1,    1,   1,                                 // types
      2,    0,    0,    0,    3,   0,   0,   0,   4,    0,   0,   0,
      2,    0,    0,    0,  // merges
      '<',  'u',  'n',  'k',  '>', '<', '/', 's', '>',  'a', 'b', 'a',
      'b',  'a',  'b',  'a'};
  CHECK(serialize(small_character_bpe()) == expected);
}

TEST_CASE("data whose parts do not fit together are refused by name") {
  const auto corrupt = StatusCode::kCorrupt;
  REQUIRE(validate_tokenizer(small_character_bpe()).ok());
  TokenizerData data = small_character_bpe();
  data.merges.push_back({2, 6});
  expect_invalid(data, corrupt, "merge 2: piece id 6, expected 0 to 5");
  data.merges.back() = {-1, 2};
  expect_invalid(data, corrupt, "merge 2: piece id -1, expected 0 to 5");
  data.merges.back() = {2, 1};
  expect_invalid(data, corrupt, "merge 2: piece 1, '</s>', is of type 3, expected a normal piece");
  data.merges.back() = {3, 3};
  expect_invalid(data, corrupt, "merge 2 of 'b' and 'b': the vocabulary has no normal piece 'bb'");
  data.merges.back() = {2, 3};
  expect_invalid(data, corrupt, "merges 0 and 2 are both of 'a' and 'b'");
  // A merge must not be a way to a control token.
  data = small_character_bpe();
  for (const char* piece : {"<", "/s>"})
    REQUIRE(data.add_piece(piece, 0, PieceType::kNormal).ok());
  data.merges.push_back({6, 7});
  expect_invalid(data, corrupt,
                 "merge 2 of '<' and '/s>': the vocabulary has no normal piece '</s>'");
  data = small_character_bpe();
  data.types[2] = PieceType::kUnused;
  expect_invalid(data, corrupt,
                 "vocabulary: piece 2, 'a', is unused, which only SentencePiece knows");
  data = small_character_bpe();
  data.split_pattern = "a";
  expect_invalid(data, corrupt, "tokenizer: kind 3 does not split texts");
  data = small_character_bpe();
  data.merge_by_id = true;
  expect_invalid(data, corrupt, "tokenizer: kind 3 does not have the options 0x40");
  data = small_character_bpe();
  data.escape_whitespaces = false;
  expect_invalid(data, corrupt,
                 "tokenizer: character BPE spells spaces U+2581, but the option is off");

  TokenizerData bytes = tiktoken_tokenizer(synthetic_tiktoken_model(520), "ranks")->data();
  REQUIRE(validate_tokenizer(bytes).ok());
  bytes.merges = {{0, 1}};
  expect_invalid(bytes, corrupt, "tokenizer: 1 merges in a tokenizer without a list of them");
  bytes.merges.clear();
  bytes.unk_id = 3;
  expect_invalid(bytes, corrupt,
                 "tokenizer: unknown id 3, but byte-level BPE has no unknown piece");
  bytes.unk_id = -1;
  bytes.types[0] = PieceType::kControl;  // "!"
  expect_invalid(bytes, corrupt,
                 "vocabulary: byte-level BPE needs a piece for each of 256 bytes, found 255; byte "
                 "0x21 is missing");
  bytes.types[0] = PieceType::kByte;
  expect_invalid(bytes, corrupt,
                 "vocabulary: piece 0, '!', has type 6, which byte-level BPE has not");
  bytes.types[0] = PieceType::kNormal;
  bytes.split_pattern = std::string(4097, 'a');
  expect_invalid(bytes, StatusCode::kLimitExceeded,
                 "split pattern of 4097 bytes, at most 4096 are supported");
  bytes.split_pattern = "(";
  CHECK(validate_tokenizer(bytes).code() == StatusCode::kUnsupportedModel);
}

TEST_CASE("damaged segments with merges end in a status or in a tokenizer that works") {
  for (const std::vector<uint8_t>& segment : small_segments()) {
    CHECK(use_truncations(segment, segment.size() < 1000 ? 1 : 5, parse_tokenizer) == 0);
    // 7 and 8 have no common divisor: every bit of a byte has its turn.
    use_bit_flips(segment, parse_tokenizer, segment.size() < 1000 ? 1 : 7);
    use_random_damage(segment, 1000, parse_tokenizer);
    std::vector<uint8_t> longer = segment;
    longer.push_back(0);
    CHECK(parse_tokenizer(longer).status().code() == StatusCode::kCorrupt);
    for (const uint8_t kind : {0, 4, 255}) {
      std::vector<uint8_t> other = segment;
      other[4] = kind;
      CHECK(parse_tokenizer(other).status().code() == StatusCode::kUnsupportedVersion);
    }
    std::vector<uint8_t> flags = segment;
    flags[9] |= 4;  // bit 10
    CHECK(parse_tokenizer(flags).status().code() == StatusCode::kUnsupportedVersion);
  }
}

TEST_CASE("T3_tokenizer_limits of merges") {
  std::vector<uint8_t> segment = serialize(small_character_bpe());
  segment[42] = 0x40;  // n_merges 2^22 + 2
  const Status status = parse_tokenizer(segment).status();
  CHECK(status.code() == StatusCode::kLimitExceeded);
  CHECK(status.message() == "tokenizer segment: 4194306 merges, at most 4194304 are supported");
}

}  // namespace flexq::test
