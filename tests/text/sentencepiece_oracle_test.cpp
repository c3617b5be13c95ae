// Ids and decoded texts against libsentencepiece, on the real models and on random small ones.
#include <doctest/doctest.h>
#include <sentencepiece_processor.h>

#include <map>

#include "text/text_fixtures.h"

namespace flexq::test {
namespace {

class Oracle {
 public:
  explicit Oracle(const std::string& model) {
    const auto status = processor_.LoadFromSerializedProto(model);
    REQUIRE_MESSAGE(status.ok(), status.ToString());
  }
  std::vector<int32_t> encode(const std::string& text) const {
    std::vector<int> ids;
    REQUIRE(processor_.Encode(text, &ids).ok());
    return ids;
  }
  std::string decode(const std::vector<int32_t>& ids) const {
    std::string text;
    REQUIRE(processor_.Decode(ids, &text).ok());
    return text;
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

std::string hex(std::string_view text) {
  std::string out;
  for (const char c : text) {
    char byte[4];
    std::snprintf(byte, sizeof(byte), "%02x ", static_cast<unsigned char>(c));
    out += byte;
  }
  return out;
}

void compare_ids(const Tokenizer& tokenizer, const Oracle& oracle, const std::string& text) {
  const std::vector<int32_t> ids = encode_text(tokenizer, text, {.add_bos = false});
  const std::vector<int32_t> expected = oracle.encode(text);
  size_t i = 0;
  while (i < ids.size() && i < expected.size() && ids[i] == expected[i])
    ++i;
  REQUIRE_MESSAGE(ids == expected, "text " << hex(text.substr(0, 400)) << ": first difference at "
                                           << i << " of " << ids.size() << " and "
                                           << expected.size());
}

void compare_text(const Tokenizer& tokenizer, const Oracle& oracle,
                  const std::vector<int32_t>& ids) {
  REQUIRE(hex(decode_ids(tokenizer, ids)) == hex(oracle.decode(ids)));
}

// A random vocabulary over few characters with many equal scores, so that ties, split unused
// pieces and overlapping user-defined pieces occur all the time.
std::string random_model(std::mt19937& random, bool* byte_fallback) {
  static const char* const kLetters[] = {"a", "b", "c", "\xC3\xA9", "\xE2\x96\x81", " "};
  const auto below = [&random](int n) {
    return static_cast<int>(random() % static_cast<uint32_t>(n));
  };
  *byte_fallback = below(2) == 0;
  ProtoWriter model;
  model.special_pieces(*byte_fallback);
  std::map<std::string, bool> used;
  const int n_pieces = 5 + below(60);
  for (int i = 0; i < n_pieces; ++i) {
    std::string piece;
    const int n_letters = 1 + below(4);
    for (int k = 0; k < n_letters; ++k)
      piece += kLetters[below(6)];
    if (!used.emplace(piece, true).second) continue;
    const int type = below(10);
    model.piece(piece, static_cast<float>(-below(8)),
                type == 0   ? PieceType::kUserDefined
                : type <= 2 ? PieceType::kUnused
                            : PieceType::kNormal);
  }
  ProtoWriter trainer;
  trainer.integer(3, 2).integer(35, *byte_fallback);
  if (below(2) == 0) trainer.text(44, below(2) == 0 ? "" : "<?>");
  model.text(2, trainer.bytes);
  ProtoWriter normalizer;
  for (const uint32_t flag : {3u, 4u, 5u})
    if (below(3) > 0) normalizer.integer(flag, static_cast<uint64_t>(below(2)));
  model.text(3, normalizer.bytes);
  return model.bytes;
}

}  // namespace

TEST_CASE("ids and texts equal SentencePiece's on the real models") {
  const std::vector<std::string> fixed = {"",
                                          " ",
                                          "  ",
                                          "   ",
                                          "a",
                                          " a",
                                          "a ",
                                          "  a  b  ",
                                          "\n",
                                          "\n\n ",
                                          "\t \t",
                                          "\xE2\x96\x81",
                                          "a\xE2\x96\x81",
                                          "\xE2\x96\x81\xE2\x96\x81 x",
                                          "<s>",
                                          "</s>x<s>",
                                          "<unk>",
                                          "<0x41>",
                                          std::string("nul\0byte", 8),
                                          "\xC0\x80",
                                          "\xED\xA0\x80",
                                          "\xF4\x90\x80\x80",
                                          "\xE2\x96",
                                          "\xF0\x9F\x98",
                                          "ab\xFF\xFE",
                                          "\xEF\xBF\xBD",
                                          "Hello  world  ",
                                          "x\xC2\xA0y",
                                          "\xE3\x80\x80"};
  for (const std::string& path : model_paths()) {
    CAPTURE(path);
    const Oracle oracle(read_file(path));
    const auto tokenizer = load_tokenizer(path);
    for (const std::string& text : fixed)
      compare_ids(*tokenizer, oracle, text);
    for (int32_t id = 0; id < tokenizer->n_vocab(); ++id) {
      compare_text(*tokenizer, oracle, {id});
      compare_text(*tokenizer, oracle, {1, 300, id});
    }
    RandomText random(*tokenizer);
    for (int i = 0; i < 600; ++i) {
      for (int kind = 0; kind < RandomText::kNumKinds; ++kind)
        compare_ids(*tokenizer, oracle, random.make(static_cast<RandomText::Kind>(kind), 60));
      compare_text(*tokenizer, oracle, random.make_ids(20));
    }
    for (int kind = 0; kind < RandomText::kNumKinds; ++kind)
      compare_ids(*tokenizer, oracle, random.make(static_cast<RandomText::Kind>(kind), 50000));
    for (const char* unit : {"a", " ", "\xF0\x9F\x98\x80", "\xE6\x97\xA5", "ab ", "\xFF"}) {
      std::string text;
      while (text.size() < 20000)
        text += unit;
      compare_ids(*tokenizer, oracle, text);
    }
  }
}

TEST_CASE("ids and texts equal SentencePiece's on random models") {
  std::mt19937 seeds(7);
  for (int i = 0; i < 400; ++i) {
    CAPTURE(i);
    bool byte_fallback = false;
    const std::string model = random_model(seeds, &byte_fallback);
    const Oracle oracle(model);
    const auto tokenizer = tokenizer_from_model(model, "random");
    RandomText random(*tokenizer, static_cast<uint32_t>(i));
    for (int k = 0; k < 60; ++k) {
      compare_ids(*tokenizer, oracle, random.make(RandomText::kPieces, 12));
      compare_ids(*tokenizer, oracle, random.make(RandomText::kInvalidUtf8, 12));
      compare_text(*tokenizer, oracle, random.make_ids(12));
    }
  }
}

}  // namespace flexq::test
