#include "checkpoint/safetensors.h"

#include <doctest/doctest.h>

#include <chrono>
#include <filesystem>
#include <numeric>

#include "expect_error.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

using namespace flexq;
using namespace flexq::test;

namespace {

class OneFile {
 public:
  const std::string& path() const { return path_; }
  Result<SafetensorsFile> open(const std::string& bytes) {
    write_files(directory_.path(), {{"a.safetensors", bytes}});
    return SafetensorsFile::open(path_);
  }

 private:
  TemporaryDirectory directory_;
  std::string path_ = directory_.file("a.safetensors");
};

}  // namespace

TEST_CASE("safetensors: entries, shapes and data of a valid file") {
  std::string data(2 * 3 * 4 + 5 * 2 + 8, '\0');
  std::iota(data.begin(), data.end(), '\0');
  OneFile file;
  Result<SafetensorsFile> opened = file.open(safetensors_bytes(
      R"({"__metadata__": {"format": "pt"},
          "z": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
          "empty": {"dtype": "F16", "shape": [0, 7], "data_offsets": [34, 34]},
          "a": {"dtype": "BF16", "shape": [5], "data_offsets": [24, 34]},
          "scalar": {"data_offsets": [34, 42], "shape": [], "dtype": "I64"}})",
      data));
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  const std::vector<SafetensorsEntry>& entries = opened->entries();
  REQUIRE(entries.size() == 4);
  CHECK(entries[0].name == "a");
  CHECK(entries[1].name == "empty");
  CHECK(entries[2].name == "scalar");
  CHECK(entries[3].name == "z");
  CHECK(entries[3].shape == std::vector<int64_t>{2, 3});
  CHECK(entries[3].dtype == "F32");
  CHECK(shape_text(entries[3].shape) == "[2, 3]");
  CHECK(shape_text(entries[2].shape) == "[]");

  std::vector<uint8_t> bytes(4);
  CHECK(opened->read(entries[0], 6, bytes).ok());
  CHECK(bytes == std::vector<uint8_t>{30, 31, 32, 33});
  expect_error(opened->read(entries[0], 7, bytes), StatusCode::kInvalidArgument, {"tensor a"});
  expect_error(opened->read(entries[0], -1, bytes), StatusCode::kInvalidArgument, {"tensor a"});
}

TEST_CASE("safetensors: every inconsistency of a header is named") {
  constexpr StatusCode kCorrupt = StatusCode::kCorrupt;
  constexpr StatusCode kLimit = StatusCode::kLimitExceeded;
  struct Malformed {
    const char* header;
    size_t data_bytes;
    StatusCode code;
    std::vector<std::string> parts;
  };
  const std::vector<Malformed> cases = {
      {"[]", 0, kCorrupt, {"JSON object"}},
      {"  {}", 0, kCorrupt, {"JSON object"}},
      {"{", 0, kCorrupt, {"header"}},
      {R"({"a": 1})", 0, kCorrupt, {"tensor a", "object"}},
      {R"({"a": {}})", 0, kCorrupt, {"tensor a", "dtype"}},
      {R"({"a": {"dtype": 1, "shape": [1], "data_offsets": [0, 4]}})", 4, kCorrupt, {"dtype"}},
      {R"({"a": {"dtype": "F32", "data_offsets": [0, 4]}})", 4, kCorrupt, {"shape is missing"}},
      {R"({"a": {"dtype": "F32", "shape": [1]}})", 4, kCorrupt, {"data_offsets is missing"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "x": 1}})",
       4,
       kCorrupt,
       {"only dtype"}},
      {R"({"a": {"dtype": "Q6_K", "shape": [1], "data_offsets": [0, 4]}})",
       4,
       StatusCode::kUnsupportedVersion,
       {"tensor a", "unknown dtype", "Q6_K"}},
      {R"({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})", 4, kCorrupt, {"shape"}},
      {R"({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}})",
       4,
       kCorrupt,
       {"shape"}},
      {R"({"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}})", 4, kCorrupt, {"shape"}},
      {R"({"a": {"dtype": "F32", "shape": [1,1,1,1,1], "data_offsets": [0, 4]}})",
       4,
       kCorrupt,
       {"shape", "at most 4"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}})",
       4,
       kCorrupt,
       {"[begin, end]"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}})",
       4,
       kCorrupt,
       {"[begin, end]"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}})",
       4,
       kCorrupt,
       {"begin <= end"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}})",
       4,
       kCorrupt,
       {"[begin, end]"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 18446744073709551612]}})",
       4,
       kCorrupt,
       {"[begin, end]"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [9223372036854775803,
          9223372036854775807]}})",
       4,
       kCorrupt,
       {"tensor a", "hole"}},
      {R"({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 12]}})",
       12,
       kCorrupt,
       {"tensor a", "12 bytes", "expected 16", "F32 [2, 2]"}},
      // Products of the shape that wrap to the right size in 64 bits.
      {R"({"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}})",
       0,
       kCorrupt,
       {"tensor a", "64-bit"}},
      {R"({"a": {"dtype": "F32", "shape": [4611686018427387905], "data_offsets": [0, 4]}})",
       4,
       kCorrupt,
       {"tensor a", "64-bit"}},
      {R"({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}})",
       1,
       kCorrupt,
       {"tensor a"}},
      {R"({"a": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]},
           "b": {"dtype": "I8", "shape": [4], "data_offsets": [3, 7]}})",
       7,
       kCorrupt,
       {"tensor b", "byte 3", "expected 4", "overlap"}},
      {R"({"a": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]},
           "b": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]}})",
       4,
       kCorrupt,
       {"tensor", "overlap"}},
      {R"({"a": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]},
           "b": {"dtype": "I8", "shape": [4], "data_offsets": [5, 9]}})",
       9,
       kCorrupt,
       {"tensor b", "byte 5", "expected 4", "hole"}},
      {R"({"a": {"dtype": "I8", "shape": [4], "data_offsets": [1, 5]}})",
       5,
       kCorrupt,
       {"tensor a", "hole"}},
      {R"({"a": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]},
           "a": {"dtype": "I8", "shape": [4], "data_offsets": [4, 8]}})",
       8,
       kCorrupt,
       {"duplicate"}},
      {R"({"a": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]}})",
       3,
       kCorrupt,
       {"file of 75 bytes", "expected 76", "truncated"}},
      {R"({"a": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]}})",
       5,
       kCorrupt,
       {"file of 77 bytes", "expected 76", "trailing"}},
      {R"({"": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]}})", 4, kLimit, {"0 bytes"}},
      // Each tensor is possible, their sum is 2^63 - 1 and with the header beyond it.
      {R"({"a": {"dtype": "I8", "shape": [1152921504606846975], "data_offsets": [0, 1152921504606846975]},
           "b": {"dtype": "I8", "shape": [1152921504606846975], "data_offsets": [1152921504606846975, 2305843009213693950]},
           "c": {"dtype": "I8", "shape": [1152921504606846975], "data_offsets": [2305843009213693950, 3458764513820540925]},
           "d": {"dtype": "I8", "shape": [1152921504606846975], "data_offsets": [3458764513820540925, 4611686018427387900]},
           "e": {"dtype": "I8", "shape": [1152921504606846975], "data_offsets": [4611686018427387900, 5764607523034234875]},
           "f": {"dtype": "I8", "shape": [1152921504606846975], "data_offsets": [5764607523034234875, 6917529027641081850]},
           "g": {"dtype": "I8", "shape": [1152921504606846975], "data_offsets": [6917529027641081850, 8070450532247928825]},
           "h": {"dtype": "I8", "shape": [1152921504606846975], "data_offsets": [8070450532247928825, 9223372036854775800]},
           "i": {"dtype": "I8", "shape": [7], "data_offsets": [9223372036854775800, 9223372036854775807]}})",
       0,
       kCorrupt,
       {"beyond the size of any file"}},
      {R"({"__metadata__": {"n": 1}})", 0, kCorrupt, {"__metadata__"}},
      {R"({"__metadata__": 1})", 0, kCorrupt, {"__metadata__"}},
  };
  OneFile file;
  for (const Malformed& malformed : cases) {
    INFO(malformed.header);
    const Result<SafetensorsFile> opened =
        file.open(safetensors_bytes(malformed.header, std::string(malformed.data_bytes, '\0')));
    REQUIRE_FALSE(opened.ok());
    expect_error(opened.status(), malformed.code, malformed.parts);
    expect_error(opened.status(), malformed.code, {file.path()});
  }
  const std::string long_name(257, 'n');
  expect_error(file.open(safetensors_bytes("{\"" + long_name + "\": {}}", "")).status(), kLimit,
               {"257 bytes"});
}

TEST_CASE("safetensors: the header's length is bounded by the limit and by the file") {
  OneFile file;
  expect_error(file.open(std::string("\x01\0\0\0\0\0\0\x80", 8)).status(),
               StatusCode::kLimitExceeded, {"9223372036854775809", "100000000"});
  expect_error(file.open(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8)).status(),
               StatusCode::kLimitExceeded, {"100000001", "100000000"});
  expect_error(file.open(std::string("\0\xe1\xf5\x05\0\0\0\0", 8)).status(), StatusCode::kCorrupt,
               {"file of 8 bytes", "100000008"});
  expect_error(file.open(std::string(8, '\0')).status(), StatusCode::kCorrupt, {"JSON object"});
  expect_error(file.open("").status(), StatusCode::kCorrupt, {"file of 0 bytes"});
  expect_error(SafetensorsFile::open(file.path() + ".absent").status(), StatusCode::kNotFound,
               {"a.safetensors.absent"});
}

TEST_CASE("safetensors: a header of 65,536 tensors opens in sensible time, one more is refused") {
  std::string header = "{";
  const auto add = [&header](int i) {
    header += (i > 0 ? ",\"" : "\"") + std::string("model.layers.") + std::to_string(i) +
              ".self_attn.q_proj.weight\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[" +
              std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  };
  for (int i = 0; i < 65536; ++i)
    add(i);
  OneFile file;
  const auto begin = std::chrono::steady_clock::now();
  const Result<SafetensorsFile> opened =
      file.open(safetensors_bytes(header + "}", std::string(65536, '\0')));
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  MESSAGE("65,536 tensors opened in ", elapsed.count(), " s");
  add(65536);
  add(65537);
  expect_error(file.open(safetensors_bytes(header + "}", std::string(65538, '\0'))).status(),
               StatusCode::kLimitExceeded, {"65538 tensors", "65536"});
}
