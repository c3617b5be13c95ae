// Reading tokenizer.model and bundle segments: round trips, refusals by name, hostile bytes.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "text/damage.h"
#include "text/text_fixtures.h"
#include "text/tokenizer_segment.h"

namespace flexq::test {
namespace {

ProtoWriter trainer_spec(bool byte_fallback = false) {
  return ProtoWriter().integer(3, 2).integer(35, byte_fallback);
}

// A small valid model that the cases below damage in one place each.
ProtoWriter small_model() {
  ProtoWriter model;
  model.special_pieces(false).piece("a", -1, PieceType::kNormal).piece("b", -2, PieceType::kNormal);
  return model;
}

Status read_status(const std::string& model) {
  return read_sentencepiece_model(as_bytes(model), "m").status();
}

void expect_refused(const std::string& model, StatusCode code, const std::string& message) {
  const Status status = read_status(model);
  CHECK(status.code() == code);
  CHECK(status.message() == message);
}

TokenizerData read_data(const std::string& path) {
  auto data = read_sentencepiece_model(as_bytes(read_file(path)), path);
  REQUIRE_MESSAGE(data.ok(), data.status().message());
  return std::move(data).value();
}

Result<TokenizerData> read_model(std::span<const uint8_t> bytes) {
  return read_sentencepiece_model(bytes, "damaged");
}

}  // namespace

TEST_CASE("a serialized tokenizer reads back as it was") {
  for (const std::string& path : model_paths()) {
    const TokenizerData data = read_data(path);
    const std::vector<uint8_t> bytes = serialize(data);
    auto back = parse_tokenizer(bytes);
    REQUIRE_MESSAGE(back.ok(), back.status().message());
    CHECK(back->piece_bytes == data.piece_bytes);
    CHECK(back->piece_ends == data.piece_ends);
    CHECK(back->scores == data.scores);
    CHECK(back->types == data.types);
    CHECK(back->bos_id == data.bos_id);
    CHECK(back->eos_id == data.eos_id);
    CHECK(back->unk_id == data.unk_id);
    CHECK(back->pad_id == data.pad_id);
    CHECK(back->add_bos == data.add_bos);
    CHECK(back->add_dummy_prefix == data.add_dummy_prefix);
    CHECK(back->remove_extra_whitespaces == data.remove_extra_whitespaces);
    CHECK(back->byte_fallback == data.byte_fallback);
    CHECK(back->escape_whitespaces == data.escape_whitespaces);
    CHECK(back->unk_surface == data.unk_surface);
    CHECK(serialize(*back) == bytes);
  }
}

TEST_CASE("the segment has the documented bytes") {
  const std::string model = ProtoWriter()
                                .piece("<unk>", 0, PieceType::kUnknown)
                                .piece("<s>", 0, PieceType::kControl)
                                .piece("</s>", 0, PieceType::kControl)
                                .piece("ab", -1.5f, PieceType::kNormal)
                                .text(2, trainer_spec().integer(43, 3).text(44, "??").bytes)
                                .text(3, ProtoWriter().integer(4, 0).bytes)
                                .bytes;
  auto data = read_sentencepiece_model(as_bytes(model), "m");
  REQUIRE_MESSAGE(data.ok(), data.status().message());
  const std::vector<uint8_t> expected = {
      1,   0,   0,    0,    1,   0,   0,   0,   0x13, 0,   0,   0,
      4,   0,   0,    0,  // version, kind, flags, n
      1,   0,   0,    0,    2,   0,   0,   0,   0,    0,   0,   0,
      3,   0,   0,    0,                       // bos, eos, unk, pad
      2,   0,   0,    0,    14,  0,   0,   0,  // sizes
      0,   0,   0,    0,    0,   0,   0,   0,   0,    0,   0,   0,
      0,   0,   0xC0, 0xBF,                                         // scores
      5,   0,   3,    0,    4,   0,   2,   0,   2,    3,   3,   1,  // lengths, types
      '<', 'u', 'n',  'k',  '>', '<', 's', '>', '<',  '/', 's', '>',
      'a', 'b', '?',  '?'};
  CHECK(serialize(*data) == expected);
}

TEST_CASE("proto defaults of a model hold") {
  const TokenizerData stories = read_data(source_path("samples/data/stories260k/tokenizer.model"));
  CHECK(stories.n_vocab() == 512);
  CHECK(stories.add_dummy_prefix);
  CHECK(stories.remove_extra_whitespaces);
  CHECK(stories.escape_whitespaces);
  CHECK(stories.byte_fallback);
  CHECK(stories.add_bos);
  CHECK(stories.bos_id == 1);
  CHECK(stories.eos_id == 2);
  CHECK(stories.unk_id == 0);
  CHECK(stories.pad_id == -1);
  CHECK_FALSE(
      read_data(source_path("tests/data/wiki-tiny-1m/tokenizer.model")).remove_extra_whitespaces);
}

TEST_CASE("models that are not plain BPE are refused by name") {
  const auto with = [](const ProtoWriter& trainer) {
    return small_model().text(2, trainer.bytes).bytes;
  };
  REQUIRE(read_status(with(trainer_spec())).ok());
  expect_refused(small_model().bytes, StatusCode::kUnsupportedModel,
                 "m: a SentencePiece unigram model (model_type 1); only BPE (2) is supported");
  expect_refused(with(ProtoWriter().integer(3, 4)), StatusCode::kUnsupportedModel,
                 "m: a SentencePiece character model (model_type 4); only BPE (2) is supported");
  expect_refused(with(trainer_spec().integer(24, 1)), StatusCode::kUnsupportedModel,
                 "m: treat_whitespace_as_suffix is set; only models with spaces in front of words "
                 "are supported");
  for (const uint32_t field : {3u, 5u})
    expect_refused(
        small_model()
            .text(2, trainer_spec().bytes)
            .text(field, ProtoWriter().text(2, "tables").bytes)
            .bytes,
        StatusCode::kUnsupportedModel,
        std::string("m: ") + (field == 3 ? "normalizer" : "denormalizer") +
            "_spec.precompiled_charsmap has 6 bytes; only models without a normalization table "
            "(identity) are supported");
}

TEST_CASE("models whose parts do not fit together are refused by name") {
  const auto finish = [](ProtoWriter model, ProtoWriter trainer = trainer_spec()) {
    return model.text(2, trainer.bytes).bytes;
  };
  const auto normal = PieceType::kNormal;
  const auto corrupt = StatusCode::kCorrupt;
  expect_refused(finish(small_model().piece("b", 0, normal)), corrupt,
                 "m: vocabulary: piece 5, 'b', appears twice");
  const std::string x39(39, 'x');
  const std::string long_piece = x39 + "\xC3\xA9z";
  expect_refused(finish(small_model().piece(long_piece, 0, normal).piece(long_piece, 0, normal)),
                 corrupt, "m: vocabulary: piece 6, '" + x39 + "...', appears twice");
  expect_refused(finish(small_model().piece("", 0, normal)), corrupt,
                 "m: vocabulary: piece 5 is empty");
  expect_refused(finish(small_model().piece("\xFF", 0, normal)), corrupt,
                 "m: vocabulary: piece 5 is not valid UTF-8");
  expect_refused(finish(small_model().piece("n\na", std::nanf(""), normal)), corrupt,
                 "m: vocabulary: the score of piece 5, 'n\\x0Aa', is not finite");
  expect_refused(finish(small_model().piece("c", std::numeric_limits<float>::infinity(), normal)),
                 corrupt, "m: vocabulary: the score of piece 5, 'c', is not finite");
  expect_refused(finish(small_model().piece("u", 0, PieceType::kUnknown)), corrupt,
                 "m: vocabulary: pieces 0 and 5 both stand for unknown text, expected one");
  expect_refused(finish(small_model().piece("<0x0A>", 0, PieceType::kByte)), corrupt,
                 "m: vocabulary: 1 byte pieces in a tokenizer without byte fallback");
  expect_refused(finish(small_model().piece("<0x0a>", 0, PieceType::kByte)), corrupt,
                 "m: vocabulary: byte piece 5 is '<0x0a>', expected '<0x00>' to '<0xFF>'");
  expect_refused(
      finish(small_model(), trainer_spec(true)), corrupt,
      "m: vocabulary: byte fallback needs 256 byte pieces, found 0; '<0x00>' is missing");
  expect_refused(finish(small_model(), trainer_spec().integer(41, 99)), corrupt,
                 "m: tokenizer: BOS id 99, expected -1 or 0 to 4");
  expect_refused(finish(small_model(), trainer_spec().integer(42, 3)), corrupt,
                 "m: tokenizer: EOS id 3 is 'a' of type 1, expected a control piece");
  expect_refused(finish(small_model(), trainer_spec().integer(40, 1)), corrupt,
                 "m: tokenizer: unknown id 1, but the vocabulary's unknown piece is 0");
  expect_refused(finish(ProtoWriter()), corrupt, "m: the model has no pieces");

  // No BOS: a model that does not want one.
  auto data = read_sentencepiece_model(
      as_bytes(finish(small_model(), trainer_spec().integer(41, ~uint64_t{0}))), "m");
  REQUIRE_MESSAGE(data.ok(), data.status().message());
  CHECK(data->bos_id == -1);
  CHECK_FALSE(data->add_bos);
}

TEST_CASE("malformed protobuf is refused with its position") {
  const auto corrupt = StatusCode::kCorrupt;
  const std::string varint = "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF";
  expect_refused(varint + "\x02", corrupt, "m: byte 0: a varint of more than 64 bits");
  expect_refused(varint, corrupt, "m: byte 0: the message ends within a varint");
  expect_refused(std::string("\x02\x00", 2), corrupt,
                 "m: byte 0: a field number outside 1 to 536870911");
  expect_refused("\x33", corrupt, "m: byte 0: an unknown wire type");
  expect_refused("\x08\x01", corrupt, "m: byte 0: a part of the model has wire type 0, expected 2");
  expect_refused(std::string("\x0A\x05\x0A\x01", 4), corrupt,
                 "m: byte 0: a field that is longer than the message it lies in");
  expect_refused(std::string("\x0A\x02\x0A\x01", 4), corrupt,
                 "m: byte 2: a field that is longer than the message it lies in");
  expect_refused("\x0A\x03\x15zz", corrupt,
                 "m: byte 3: the message ends within a fixed-size number");
  expect_refused("\x0A\x02\x18\x09", corrupt, "m: byte 2: piece 0 has type 9, expected 1 to 6");
  const std::string huge_length = std::string("\x0A") + varint + "\x01";
  expect_refused(huge_length, corrupt,
                 "m: byte 0: a field that is longer than the message it lies in");
}

TEST_CASE("damaged models and segments end in a status or in a tokenizer that works") {
  const std::string stories = read_file(source_path("samples/data/stories260k/tokenizer.model"));
  const std::string wiki = read_file(source_path("tests/data/wiki-tiny-1m/tokenizer.model"));
  use_truncations(as_bytes(stories), 1, read_model);
  use_truncations(as_bytes(wiki), 97, read_model);
  use_bit_flips(as_bytes(stories), read_model);
  use_random_damage(as_bytes(stories), 5000, read_model);

  const std::vector<uint8_t> segment =
      serialize(read_data(source_path("samples/data/stories260k/tokenizer.model")));
  CHECK(use_truncations(segment, 1, parse_tokenizer) == 0);
  use_bit_flips(segment, parse_tokenizer);
  use_random_damage(segment, 5000, parse_tokenizer);
  std::vector<uint8_t> longer = segment;
  longer.push_back(0);
  CHECK(parse_tokenizer(longer).status().code() == StatusCode::kCorrupt);
}

TEST_CASE("T3_tokenizer_limits") {
  const auto with_vocab = [](int32_t n_vocab) {
    ProtoWriter model = small_model();
    for (int32_t id = 5; id < n_vocab; ++id)
      model.piece("p" + std::to_string(id), 0, PieceType::kNormal);
    return model.text(2, trainer_spec().bytes).bytes;
  };
  const auto with_piece = [](size_t n_bytes) {
    return small_model()
        .piece(std::string(n_bytes, 'x'), 0, PieceType::kNormal)
        .text(2, trainer_spec().bytes)
        .bytes;
  };
  auto largest = read_sentencepiece_model(as_bytes(with_vocab(kMaxVocabPieces)), "m");
  REQUIRE_MESSAGE(largest.ok(), largest.status().message());
  expect_refused(with_vocab(kMaxVocabPieces + 1), StatusCode::kLimitExceeded,
                 "m: vocabulary: more than 1048576 pieces are not supported");
  auto longest = read_sentencepiece_model(as_bytes(with_piece(1024)), "m");
  REQUIRE_MESSAGE(longest.ok(), longest.status().message());
  expect_refused(with_piece(1025), StatusCode::kLimitExceeded,
                 "m: vocabulary: piece 5 has 1025 bytes, at most 1024 are supported");

  std::vector<uint8_t> segment = serialize(*largest);
  REQUIRE(parse_tokenizer(segment).ok());
  segment[12] = 1;  // n_vocab 2^20 + 1
  CHECK(parse_tokenizer(segment).status().code() == StatusCode::kLimitExceeded);
  segment = serialize(*longest);
  REQUIRE(parse_tokenizer(segment).ok());
  const size_t lengths = 40 + 6 * 4;
  REQUIRE(segment[lengths + 11] == 4);  // 1024, of the last piece
  segment[lengths + 10] = 1;
  segment[lengths + 8] = 0;  // the piece before gives its byte
  CHECK(parse_tokenizer(segment).status().code() == StatusCode::kLimitExceeded);

  for (const size_t offset : {0u, 4u, 10u}) {  // version, kind, an unknown flag
    std::vector<uint8_t> newer = serialize(*longest);
    newer[offset] = 9;
    CHECK(parse_tokenizer(newer).status().code() == StatusCode::kUnsupportedVersion);
  }
}

}  // namespace flexq::test
