#include "quantize/planted_checkpoint.h"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr int kPlantedBits = 4;  // 16 = 2^4

// A safetensors file in memory whose BF16 values are changed in place.
class WeightFile {
 public:
  explicit WeightFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, bytes_.data(), sizeof header_bytes);
    header_ = nlohmann::json::parse(bytes_.substr(8, header_bytes));
    data_begin_ = 8 + header_bytes;
  }

  // Multiplies a value by 2^bits. Zero stays, what would become subnormal becomes zero.
  void scale(const std::string& tensor, size_t row, size_t col, int bits) {
    const size_t at = data_begin_ + header_[tensor]["data_offsets"][0].get<size_t>() +
                      2 * (row * size_of(tensor, 1) + col);
    uint16_t value = 0;
    std::memcpy(&value, bytes_.data() + at, sizeof value);
    const int exponent = (value >> 7) & 0xff;
    const int scaled = exponent + bits;
    if (scaled > 254) throw std::runtime_error("a planted weight leaves bfloat16");
    value = exponent == 0 || scaled < 1 ? static_cast<uint16_t>(value & 0x8000)
                                        : static_cast<uint16_t>((value & ~0x7f80) | scaled << 7);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  void scale_row(const std::string& tensor, size_t row, int bits) {
    for (size_t col = 0; col < size_of(tensor, 1); ++col)
      scale(tensor, row, col, bits);
  }
  void scale_column(const std::string& tensor, size_t col, int bits) {
    for (size_t row = 0; row < size_of(tensor, 0); ++row)
      scale(tensor, row, col, bits);
  }

  void write(const std::string& path) const {
    std::ofstream(path, std::ios::binary)
        .write(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
  }

 private:
  size_t size_of(const std::string& tensor, size_t axis) const {
    return header_.at(tensor).at("shape").at(axis).get<size_t>();
  }

  std::string bytes_;
  nlohmann::json header_;
  size_t data_begin_ = 0;
};

}  // namespace

void write_planted_checkpoint(const std::string& directory) {
  const std::string original = source_path("tests/data/wiki-tiny-1m");
  for (const char* name : {"config.json", "tokenizer.model"})
    std::filesystem::copy_file(original + "/" + name, directory + "/" + name);
  WeightFile weights(original + "/model.safetensors");
  // One group of 128 channels each: with all of them hit, 8 bits would not keep a budget either.
  constexpr std::array<size_t, 2> kFfnChannels = {40, 150};
  for (size_t i = 0; i < kPlantedFfnLayers.size(); ++i) {
    const int layer = kPlantedFfnLayers[i];
    const std::string mlp = "model.layers." + std::to_string(layer) + ".mlp.";
    weights.scale_row(mlp + "up_proj.weight", kFfnChannels[i], kPlantedBits);
    weights.scale_column(mlp + "down_proj.weight", kFfnChannels[i], -kPlantedBits);
  }
  // A channel of the first of 2 KV heads of 32, which 2 of the 4 query heads read.
  const std::string attention =
      "model.layers." + std::to_string(kPlantedValueLayer) + ".self_attn.";
  constexpr size_t kValueChannel = 3;
  weights.scale_row(attention + "v_proj.weight", kValueChannel, kPlantedBits);
  for (const size_t head : {0, 1})
    weights.scale_column(attention + "o_proj.weight", head * 32 + kValueChannel, -kPlantedBits);
  weights.write(directory + "/model.safetensors");
}

}  // namespace flexq::test
