// A secret key that was used is not left in memory that others get, and no message has it.
#include <doctest/doctest.h>

#include <fstream>
#include <memory>

#include "reliability/allocation_faults.h"
#include "reliability/tiny_model.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

// `openssl genpkey -algorithm ed25519`: of no further use.
constexpr char kSeed[] =
    "\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4"
    "\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60";
constexpr char kDigits[] = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
const std::string kPem =
    std::string("-----BEGIN PRIVATE KEY-----\n") + kDigits + "\n-----END PRIVATE KEY-----\n";

// Parts of the key, as bytes and as digits of base64.
std::vector<std::string> parts_of_key() {
  std::vector<std::string> parts;
  for (size_t at = 0; at < 32; at += 8)
    parts.emplace_back(kSeed + at, 8);
  for (size_t at = 24; at < 64; at += 10)
    parts.emplace_back(kDigits + at, 10);
  return parts;
}

flexq_status sign(const std::string& path, const std::string& pem) {
  return flexq_bundle_sign(path.c_str(), pem.data(), static_cast<int64_t>(pem.size()), 2, nullptr,
                           nullptr);
}

}  // namespace

TEST_CASE("T36_secret_keys: the watch sees what is freed") {
  const std::vector<std::string> parts = parts_of_key();
  auto copy = std::make_unique<std::string>(kPem);
  const FreedMemoryWatch watch(parts);
  copy.reset();
  CHECK(watch.n_found() == 4);
}

TEST_CASE("T36_secret_keys: signing leaves nothing of the key in freed memory") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  std::ofstream(path, std::ios::binary) << tiny_model_bytes();
  const std::vector<std::string> parts = parts_of_key();
  int64_t n_found = -1;
  flexq_status status = FLEXQ_OK;
  {
    const FreedMemoryWatch watch(parts);
    status = sign(path, kPem);
    n_found = watch.n_found();
  }
  REQUIRE_OK(status);
  CHECK(n_found == 0);
  // It was this key that signed: bytes 160 to 191 are the public key of RFC 8032's first test.
  CHECK(read_file_bytes(path).substr(160, 4) == "\xd7\x5a\x98\x01");
}

TEST_CASE("T36_secret_keys: neither does a key that is refused, and no message has any of it") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  std::ofstream(path, std::ios::binary) << tiny_model_bytes();
  const std::vector<std::string> parts = parts_of_key();
  for (size_t at = 0; at < kPem.size(); ++at) {
    std::string damaged = kPem;
    damaged[at] = '*';
    if (sign(path, damaged) == FLEXQ_OK) continue;  // the line break behind the block
    const FreedMemoryWatch watch(parts);
    sign(path, damaged);
    CAPTURE(at);
    CHECK(watch.n_found() == 0);
    const std::string message = flexq_last_error();
    for (const std::string& part : parts)
      CHECK(message.find(part) == std::string::npos);
  }
}

}  // namespace flexq::test
