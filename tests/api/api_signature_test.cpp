// Signed bundles through the C interface.
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "api/api_fixture.h"
#include "support/test_data.h"
#include "support/test_keys.h"

using namespace flexq::test;

namespace {

flexq_status sign(const std::string& path, std::string_view key = kTestSecretKey,
                  flexq_progress_callback progress = nullptr, void* user_data = nullptr) {
  return flexq_bundle_sign(path.c_str(), key.data(), static_cast<int64_t>(key.size()), 2, progress,
                           user_data);
}

flexq_status require_key(flexq_source* source, std::string_view key) {
  return flexq_source_require_key(source, key.data(), static_cast<int64_t>(key.size()));
}

// Both kinds of the same model.
struct Files {
  TemporaryDirectory directory;
  const std::string unsigned_path = directory.file("unsigned.flexq");
  const std::string signed_path = directory.file("signed.flexq");

  Files() {
    for (const std::string& path : {unsigned_path, signed_path})
      std::ofstream(path, std::ios::binary) << file_bytes(tiny_bundle());
    REQUIRE_OK(sign(signed_path));
  }
};

std::string signer_of(const flexq_bundle* bundle) {
  int64_t n_bytes = 0;
  flexq_bundle_signer(bundle, nullptr, 0, &n_bytes);
  std::string text(static_cast<size_t>(n_bytes), '?');
  REQUIRE_OK(flexq_bundle_signer(bundle, text.data(), n_bytes, &n_bytes));
  return text;
}

nlohmann::json json_of(const flexq_bundle* bundle) {
  int64_t n_bytes = 0;
  flexq_bundle_json(bundle, nullptr, 0, &n_bytes);
  std::string text(static_cast<size_t>(n_bytes), '?');
  REQUIRE_OK(flexq_bundle_json(bundle, text.data(), n_bytes, &n_bytes));
  return nlohmann::json::parse(text);
}

// Every call that opens a source.
std::vector<std::function<flexq_status(flexq_source*)>> uses() {
  return {[](flexq_source* source) {
            Model model;
            return flexq_model_load(source, nullptr, model.out());
          },
          [](flexq_source* source) {
            flexq_plan plan = {};
            plan.struct_size = sizeof plan;
            return flexq_model_plan(source, nullptr, nullptr, 0, &plan);
          },
          [](flexq_source* source) {
            Tokenizer tokenizer;
            return flexq_tokenizer_open(source, tokenizer.out());
          },
          [](flexq_source* source) {
            Bundle bundle;
            return flexq_bundle_open(source, bundle.out());
          }};
}

void check_all_refused(flexq_source* source, const std::string& fragment) {
  for (const auto& use : uses())
    CHECK_ERROR(use(source), "SIGNATURE", fragment);
}

}  // namespace

TEST_CASE("signatures: who signed a bundle") {
  const Files files;
  Bundle bundle;
  REQUIRE_OK(flexq_bundle_open(open_source(files.signed_path), bundle.out()));
  CHECK(signer_of(bundle) == kTestKeyId);
  CHECK(json_of(bundle)["signature"] ==
        nlohmann::json({{"algorithm", "ed25519"}, {"key_id", std::string(kTestKeyId)}}));
  REQUIRE_OK(flexq_bundle_open(open_source(files.unsigned_path), bundle.out()));
  CHECK(signer_of(bundle) == "");
  CHECK(json_of(bundle)["signature"].is_null());
}

TEST_CASE("signatures: a required key, for every call that opens a source") {
  const Files files;
  const Source right = open_source(files.signed_path);
  for (const auto& use : uses())
    REQUIRE_OK(use(right));
  REQUIRE_OK(require_key(right, kTestPublicKey));
  for (const auto& use : uses())
    REQUIRE_OK(use(right));
  // A second key takes the place of the first, both ways.
  REQUIRE_OK(require_key(right, kOtherPublicKey));
  check_all_refused(right, "expected the signature of the key 3fcb42eb");
  REQUIRE_OK(require_key(right, kTestPublicKey));
  for (const auto& use : uses())
    REQUIRE_OK(use(right));

  const Source plain = open_source(files.unsigned_path);
  REQUIRE_OK(require_key(plain, kTestPublicKey));
  check_all_refused(plain, "found an unsigned one");
}

TEST_CASE("signatures: memory and callbacks") {
  const Files files;
  const std::string bytes = file_bytes(files.signed_path);
  const auto size = static_cast<int64_t>(bytes.size());
  const flexq_read_callback read = [](int64_t offset, void* buffer, int64_t n_bytes, void* from) {
    std::copy_n(static_cast<const std::string*>(from)->data() + offset, n_bytes,
                static_cast<char*>(buffer));
    return 0;
  };
  Source memory;
  REQUIRE_OK(flexq_source_from_memory(bytes.data(), size, memory.out()));
  Source callback;
  REQUIRE_OK(
      flexq_source_from_callback(size, read, const_cast<std::string*>(&bytes), callback.out()));
  for (flexq_source* source : {memory.get(), callback.get()}) {
    REQUIRE_OK(require_key(source, kTestPublicKey));
    for (const auto& use : uses())
      REQUIRE_OK(use(source));
    REQUIRE_OK(require_key(source, kOtherPublicKey));
    check_all_refused(source, "expected the signature");
  }
}

TEST_CASE("signatures: what has none is refused where a key is required") {
  const Source folder = open_source(stories_checkpoint());
  REQUIRE_OK(require_key(folder, kTestPublicKey));
  check_all_refused(folder, "found a folder, which has no signature");
  Source synthetic;
  REQUIRE_OK(flexq_source_synthetic("tinyllama-1.1b", nullptr, synthetic.out()));
  REQUIRE_OK(require_key(synthetic, kTestPublicKey));
  check_all_refused(synthetic, "found synthetic weights, which has no signature");
}

TEST_CASE("signatures: keys that do not serve") {
  const Files files;
  const Source source = open_source(files.signed_path);
  CHECK_INVALID(flexq_source_require_key(source, nullptr, 0), "pem");
  CHECK_INVALID(flexq_source_require_key(source, "", -1), "pem");
  CHECK_INVALID(require_key(source, ""), "found no \"-----BEGIN\"");
  CHECK_INVALID(require_key(source, kTestSecretKey), "found \"PRIVATE KEY\"");
  // A key that was refused changes nothing.
  REQUIRE_OK(require_key(source, kTestPublicKey));
  CHECK_INVALID(require_key(source, "-----BEGIN PUBLIC KEY-----"), "no end");
  for (const auto& use : uses())
    REQUIRE_OK(use(source));

  const std::string before = file_bytes(files.signed_path);
  CHECK_INVALID(sign(files.signed_path, kTestPublicKey), "found \"PUBLIC KEY\"");
  CHECK_INVALID(sign(files.signed_path, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "encrypted");
  CHECK_INVALID(sign(files.directory.path()), "folder");
  CHECK_ERROR(sign(files.directory.file("absent")), "NOT_FOUND", "absent");
  CHECK(file_bytes(files.signed_path) == before);
}

TEST_CASE("signatures: signing is cancelled, and then done while the bundle is open") {
  const Files files;
  const std::string before = file_bytes(files.unsigned_path);
  const flexq_progress_callback stop = [](int64_t, int64_t, void*) { return 1; };
  CHECK_ERROR(sign(files.unsigned_path, kTestSecretKey, stop), "CANCELLED", "stopped");
  CHECK(file_bytes(files.unsigned_path) == before);
  Bundle open;
  REQUIRE_OK(flexq_bundle_open(open_source(files.unsigned_path), open.out()));
  REQUIRE_OK(sign(files.unsigned_path));
  CHECK(file_bytes(files.unsigned_path) == file_bytes(files.signed_path));
  REQUIRE_OK(flexq_bundle_verify(open, 2, nullptr, nullptr));
  CHECK(signer_of(open) == "");
}

TEST_CASE("signatures: no byte of a signature can be changed") {
  const Files files;
  std::string bytes = file_bytes(files.signed_path);
  Source source;
  REQUIRE_OK(
      flexq_source_from_memory(bytes.data(), static_cast<int64_t>(bytes.size()), source.out()));
  for (size_t at = 96; at < 192; ++at) {
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    Bundle bundle;
    CHECK_ERROR(flexq_bundle_open(source, bundle.out()), "SIGNATURE", "does not fit");
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
  }
}
