#include "support/synthetic_tokenizer.h"

#include <bit>
#include <cstdio>
#include <deque>
#include <stdexcept>
#include <vector>

namespace flexq::test {
namespace {

// The few parts of the protobuf wire format that sentencepiece_model.proto needs.
class ProtoWriter {
 public:
  void varint_field(uint32_t field, uint64_t value) {
    varint(field << 3 | 0u);
    varint(value);
  }
  void float_field(uint32_t field, float value) {
    varint(field << 3 | 5u);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8)
      bytes_ += static_cast<char>(bits >> shift & 0xffu);
  }
  void bytes_field(uint32_t field, const std::string& value) {
    varint(field << 3 | 2u);
    varint(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7)
      bytes_ += static_cast<char>(value | 0x80u);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

// ModelProto.SentencePiece.Type
enum PieceType : uint64_t { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };

std::string piece(const std::string& text, float score, PieceType type) {
  ProtoWriter writer;
  writer.bytes_field(1, text);
  writer.float_field(2, score);
  if (type != kNormal) writer.varint_field(3, type);
  return writer.bytes();
}

// "▁" and letters by frequency in English.
std::vector<std::string> letters() {
  std::vector<std::string> result = {"\xe2\x96\x81"};
  for (const char c : std::string("etaoinshrdlucmfwypvbgkjqxz.,'"))
    result.push_back(std::string(1, c));
  return result;
}

// `n` merged pieces, short ones first, so that the left part of each has a higher score. Letters of
// one generation are interleaved ("▁t" and "he" before the rare ones).
std::vector<std::string> merges(size_t n, const std::vector<std::string>& alphabet) {
  std::vector<std::string> result;
  std::deque<std::string> parents(alphabet.begin(), alphabet.end());
  while (result.size() < n) {
    const std::string parent = parents.front();
    parents.pop_front();
    for (size_t i = 1; i < alphabet.size() && result.size() < n; ++i) {
      result.push_back(parent + alphabet[i]);
      parents.push_back(result.back());
    }
  }
  return result;
}

}  // namespace

std::string synthetic_tokenizer_model(int32_t n_vocab) {
  if (n_vocab < kMinSyntheticVocab) throw std::runtime_error("a vocabulary without byte pieces");
  ProtoWriter model;
  model.bytes_field(1, piece("<unk>", 0.0f, kUnknown));
  model.bytes_field(1, piece("<s>", 0.0f, kControl));
  model.bytes_field(1, piece("</s>", 0.0f, kControl));
  for (unsigned byte = 0; byte < 256; ++byte) {
    char text[8];
    snprintf(text, sizeof text, "<0x%02X>", byte);
    model.bytes_field(1, piece(text, 0.0f, kByte));
  }
  std::vector<std::string> alphabet = letters();
  const auto n_free = static_cast<size_t>(n_vocab - kMinSyntheticVocab);
  if (alphabet.size() > n_free) alphabet.resize(n_free);
  std::vector<std::string> pieces = merges(n_free - alphabet.size(), alphabet);
  pieces.insert(pieces.end(), alphabet.begin(), alphabet.end());
  float score = 0.0f;
  for (const std::string& text : pieces) {
    model.bytes_field(1, piece(text, score, kNormal));
    score -= 1.0f;
  }

  ProtoWriter trainer;
  trainer.varint_field(3, 2);  // model_type: BPE
  trainer.varint_field(4, static_cast<uint64_t>(n_vocab));
  trainer.varint_field(35, 1);  // byte_fallback
  model.bytes_field(2, trainer.bytes());
  ProtoWriter normalizer;
  normalizer.bytes_field(1, "identity");
  normalizer.varint_field(3, 1);  // add_dummy_prefix
  normalizer.varint_field(4, 0);  // remove_extra_whitespaces
  normalizer.varint_field(5, 1);  // escape_whitespaces
  model.bytes_field(3, normalizer.bytes());
  return model.bytes();
}

}  // namespace flexq::test
