#include "support/safetensors_file.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace flexq::test {
namespace {

template <typename T>
std::vector<T> elements(const std::string& bytes, size_t begin, size_t end) {
  std::vector<T> values((end - begin) / sizeof(T));
  std::memcpy(values.data(), bytes.data() + begin, values.size() * sizeof(T));
  return values;
}

}  // namespace

std::map<std::string, ReferenceTensor> read_reference_tensors(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) throw std::runtime_error("cannot read " + path);
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  const size_t data_begin = sizeof header_bytes + header_bytes;
  if (data_begin > bytes.size()) throw std::runtime_error("truncated header in " + path);
  const nlohmann::json header = nlohmann::json::parse(
      bytes.begin() + sizeof header_bytes, bytes.begin() + static_cast<std::ptrdiff_t>(data_begin));

  std::map<std::string, ReferenceTensor> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    ReferenceTensor& tensor = tensors[name];
    for (const auto& dimension : entry.at("shape"))
      tensor.shape.push_back(dimension.get<int64_t>());
    const size_t begin = data_begin + entry.at("data_offsets").at(0).get<size_t>();
    const size_t end = data_begin + entry.at("data_offsets").at(1).get<size_t>();
    if (begin > end || end > bytes.size()) throw std::runtime_error("truncated data in " + path);
    const auto dtype = entry.at("dtype").get<std::string>();
    if (dtype == "F32") {
      tensor.f32 = elements<float>(bytes, begin, end);
    } else if (dtype == "I32") {
      tensor.i32 = elements<int32_t>(bytes, begin, end);
    } else {
      throw std::runtime_error("dtype " + dtype + " of " + name + " in " + path);
    }
  }
  return tensors;
}

}  // namespace flexq::test
