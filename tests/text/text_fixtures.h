// Tokenizer models, hand-made models and random texts for the tests of src/text.
#pragma once

#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "support/test_data.h"
#include "text/sentencepiece_model.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace flexq::test {

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE_MESSAGE(in.good(), "cannot open " << path);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::span<const uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// The model files that are there: two always, two more with the reference data.
inline std::vector<std::string> model_paths() {
  std::vector<std::string> paths = {source_path("samples/data/stories260k/tokenizer.model"),
                                    source_path("tests/data/wiki-tiny-1m/tokenizer.model")};
  for (const char* reference :
       {"models/wiki-llama2-28m/tokenizer.model", "tokenizers/llama2/tokenizer.model"}) {
    const std::string path = reference_path(reference);
    if (!path.empty()) paths.push_back(path);
  }
  case_skipped = false;  // at least the models of the source tree are tested
  return paths;
}

inline std::shared_ptr<const Tokenizer> tokenizer_from_model(std::string_view model,
                                                             const std::string& name) {
  auto data = read_sentencepiece_model(as_bytes(model), name);
  REQUIRE_MESSAGE(data.ok(), data.status().message());
  auto tokenizer = Tokenizer::create(std::move(data).value());
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  return *tokenizer;
}

inline std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path) {
  return tokenizer_from_model(read_file(path), path);
}

inline std::vector<int32_t> encode_text(const Tokenizer& tokenizer, std::string_view text,
                                        const EncodeOptions& options = {}) {
  auto ids = tokenizer.encode(text, options);
  REQUIRE_MESSAGE(ids.ok(), ids.status().message());
  return *ids;
}

inline std::string decode_ids(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  auto text = tokenizer.decode(ids);
  REQUIRE_MESSAGE(text.ok(), text.status().message());
  return *text;
}

// Writes SentencePiece's ModelProto, well-formed or not.
struct ProtoWriter {
  std::string bytes;

  ProtoWriter& varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7)
      bytes.push_back(static_cast<char>(value | 0x80));
    bytes.push_back(static_cast<char>(value));
    return *this;
  }
  ProtoWriter& integer(uint32_t field, uint64_t value) {
    return varint(uint64_t{field} << 3).varint(value);
  }
  ProtoWriter& text(uint32_t field, std::string_view value) {
    varint((uint64_t{field} << 3) | 2).varint(value.size());
    bytes.append(value);
    return *this;
  }
  ProtoWriter& real(uint32_t field, float value) {
    varint((uint64_t{field} << 3) | 5);
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    for (int i = 0; i < 4; ++i)
      bytes.push_back(static_cast<char>(bits >> (8 * i)));
    return *this;
  }
  ProtoWriter& piece(std::string_view piece, float score, PieceType type) {
    return text(
        1,
        ProtoWriter().text(1, piece).real(2, score).integer(3, static_cast<uint64_t>(type)).bytes);
  }
  // <unk>, <s>, </s> and, for byte fallback, the 256 byte pieces.
  ProtoWriter& special_pieces(bool byte_fallback) {
    piece("<unk>", 0, PieceType::kUnknown);
    piece("<s>", 0, PieceType::kControl);
    piece("</s>", 0, PieceType::kControl);
    for (int byte = 0; byte_fallback && byte < 256; ++byte) {
      char name[8];
      std::snprintf(name, sizeof(name), "<0x%02X>", byte);
      piece(name, 0, PieceType::kByte);
    }
    return *this;
  }
};

// Random texts of several kinds, the same in every run. Only kinds below kInvalidUtf8 are valid.
class RandomText {
 public:
  enum Kind { kPieces, kCharacters, kSpaces, kInvalidUtf8, kBytes, kNumKinds };

  explicit RandomText(const Tokenizer& tokenizer, uint32_t seed = 1)
      : tokenizer_(tokenizer), random_(seed) {}

  int below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }

  std::string make(Kind kind, int max_parts) {
    std::string text;
    const int n_parts = below(max_parts + 1);
    for (int i = 0; i < n_parts; ++i) {
      switch (kind) {
        case kPieces:
        case kInvalidUtf8: {
          const int32_t id = below(tokenizer_.n_vocab());
          if (tokenizer_.data().types[static_cast<size_t>(id)] != PieceType::kByte &&
              is_valid_utf8(tokenizer_.piece_bytes(id)))
            text += tokenizer_.piece_bytes(id);
          break;
        }
        case kCharacters:
          append_character(text);
          break;
        case kSpaces:
          text += below(3) == 0 ? "word" : (below(5) == 0 ? "\t\n" : " ");
          break;
        default:
          text.push_back(static_cast<char>(below(256)));
      }
    }
    if (kind == kInvalidUtf8)
      for (size_t i = static_cast<size_t>(below(8)); i < text.size();
           i += 1u + static_cast<size_t>(below(24)))
        text[i] = static_cast<char>(below(256));
    return text;
  }

  // Any ids, with runs of byte tokens that spell characters, cut or whole.
  std::vector<int32_t> make_ids(int max_parts) {
    std::vector<int32_t> ids;
    const int n_parts = below(max_parts + 1);
    for (int i = 0; i < n_parts; ++i) {
      if (below(2) == 0) {
        ids.push_back(below(tokenizer_.n_vocab()));
        continue;
      }
      std::string character;
      append_character(character);
      if (below(3) == 0) character.resize(static_cast<size_t>(below(5)));
      for (const char byte : character) {
        char name[8];
        std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<unsigned char>(byte));
        const bool is_byte_level = tokenizer_.data().kind == TokenizerKind::kByteLevelBpe;
        const int32_t id = tokenizer_.id_of(is_byte_level ? std::string(1, byte) : name);
        if (id >= 0) ids.push_back(id);
      }
    }
    return ids;
  }

  void append_character(std::string& text) {
    static constexpr char32_t kRanges[][2] = {
        {0x0, 0x7F},         {0x80, 0x7FF},    {0x800, 0xD7FF},   {0xE000, 0xFFFF},
        {0x10000, 0x10FFFF}, {0x4E00, 0x9FFF}, {0x1F300, 0x1F6FF}};
    const auto& range = kRanges[below(7)];
    const char32_t c =
        range[0] + static_cast<char32_t>(below(static_cast<int>(range[1] - range[0] + 1)));
    if (c < 0x80) {
      text.push_back(static_cast<char>(c));
    } else if (c < 0x800) {
      text.push_back(static_cast<char>(0xC0 | (c >> 6)));
      text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
    } else if (c < 0x10000) {
      text.push_back(static_cast<char>(0xE0 | (c >> 12)));
      text.push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
      text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
    } else {
      text.push_back(static_cast<char>(0xF0 | (c >> 18)));
      text.push_back(static_cast<char>(0x80 | ((c >> 12) & 0x3F)));
      text.push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
      text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
    }
  }

 private:
  const Tokenizer& tokenizer_;
  std::mt19937 random_;
};

}  // namespace flexq::test
