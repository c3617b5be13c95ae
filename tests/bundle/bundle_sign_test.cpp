// Signing a bundle's file.
#include "bundle/bundle_sign.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/file.h"
#include "bundle/bundle_parts.h"
#include "bundle/bundle_reader.h"
#include "bundle/bundle_signature.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

Ed25519SecretKey key_of(uint8_t fill) {
  std::array<uint8_t, 32> seed;
  seed.fill(fill);
  return Ed25519SecretKey(seed);
}

void write_file(const std::string& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
}

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

// The tiny bundle with the signature in its place, made here.
Bytes expected_file(const Ed25519SecretKey& key) {
  Bytes bundle = tiny_bundle();
  const Ed25519Signature signature =
      key.sign(signed_message(take_apart(tiny_bundle()).header.sha256));
  const Ed25519PublicKey public_key = key.public_key();
  std::copy(signature.begin(), signature.end(), bundle.begin() + 96);
  std::copy(public_key.begin(), public_key.end(), bundle.begin() + 160);
  return bundle;
}

mode_t mode_of(const std::string& path) {
  struct stat info {};
  REQUIRE(stat(path.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

Status sign_on_one_thread(const std::string& path, const Ed25519SecretKey& key,
                          const ProgressSink& progress = {}) {
  ThreadPool pool(1);
  return sign_bundle(path, key, pool, progress);
}

}  // namespace

TEST_CASE("T36_signatures: signing changes the signature and nothing else, and again replaces it") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  write_file(path, tiny_bundle());
  for (const uint8_t fill : {uint8_t{1}, uint8_t{1}, uint8_t{2}}) {
    const Status status = sign_on_one_thread(path, key_of(fill));
    REQUIRE_MESSAGE(status.ok(), status.message());
    CHECK((read_file(path) == expected_file(key_of(fill))));
    CHECK((*list_directory(directory.path()) == std::vector<std::string>{"model.flexq"}));
    CHECK(load(read_file(path)).ok());
  }
}

TEST_CASE("T36_signatures: a signed file keeps its permissions, and a link leads to it") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  const std::string link = directory.file("link.flexq");
  write_file(path, tiny_bundle());
  std::filesystem::create_symlink("model.flexq", link);
  REQUIRE(chmod(path.c_str(), 0640) == 0);
  REQUIRE(sign_on_one_thread(link, key_of(1)).ok());
  CHECK(mode_of(path) == 0640);
  CHECK(std::filesystem::is_symlink(link));
  CHECK((read_file(path) == expected_file(key_of(1))));
}

TEST_CASE("T36_signatures: a bundle that would not load is not signed") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  const auto check_untouched = [&](const Bytes& bytes, StatusCode code) {
    write_file(path, bytes);
    CHECK(sign_on_one_thread(path, key_of(1)).code() == code);
    CHECK((read_file(path) == bytes));
    CHECK((*list_directory(directory.path()) == std::vector<std::string>{"model.flexq"}));
  };
  Bytes damaged = tiny_bundle();
  damaged[static_cast<size_t>(take_apart(damaged).header.segment_base)] ^= 1;  // a chunk
  check_untouched(damaged, StatusCode::kCorrupt);
  damaged = tiny_bundle();
  damaged[300] ^= 1;  // the directory
  check_untouched(damaged, StatusCode::kCorrupt);
  damaged = expected_file(key_of(2));
  damaged[100] ^= 1;  // its signature
  check_untouched(damaged, StatusCode::kSignature);
  check_untouched({}, StatusCode::kCorrupt);
  CHECK(sign_on_one_thread(directory.path(), key_of(1)).code() == StatusCode::kInvalidArgument);
  CHECK(sign_on_one_thread(directory.file("absent"), key_of(1)).code() == StatusCode::kNotFound);
}

TEST_CASE("T36_signatures: progress of signing, and its end") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  write_file(path, tiny_bundle());
  struct Calls {
    std::vector<int64_t> done;
    int64_t total = 0;
    int64_t stop_at = INT64_MAX;
    static int32_t on_progress(int64_t done, int64_t total, void* user_data) {
      auto& calls = *static_cast<Calls*>(user_data);
      calls.done.push_back(done);
      calls.total = total;
      return std::ssize(calls.done) > calls.stop_at ? 1 : 0;
    }
  };
  Calls all;
  REQUIRE(sign_on_one_thread(path, key_of(1), {Calls::on_progress, &all}).ok());
  CHECK(all.done.back() == all.total);
  CHECK(all.total > std::ssize(tiny_bundle()));
  CHECK(std::is_sorted(all.done.begin(), all.done.end()));
  for (int64_t n_calls = 0; n_calls < std::ssize(all.done); ++n_calls) {
    Calls stopped;
    stopped.stop_at = n_calls;
    CHECK(sign_on_one_thread(path, key_of(2), {Calls::on_progress, &stopped}).code() ==
          StatusCode::kCancelled);
    CHECK((read_file(path) == expected_file(key_of(1))));
    CHECK((*list_directory(directory.path()) == std::vector<std::string>{"model.flexq"}));
  }
}

}  // namespace flexq::test
