// flexq sign and --public-key, against the openssl program: the keys are made by it, what the tool
// signs it verifies, and what it signs the tool accepts.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "support/skipped.h"
#include "support/test_data.h"
#include "support/test_keys.h"
#include "tool/tool_process.h"

using namespace flexq::test;

namespace {

const std::string kStories = source_path("samples/data/stories260k");

// A folder with a bundle and two pairs of keys by openssl.
struct Workplace {
  TemporaryDirectory directory;
  const std::string bundle = directory.file("model.flexq");
  const std::string secret = directory.file("secret.pem");
  const std::string published = directory.file("public.pem");
  const std::string other = directory.file("other.pem");

  Workplace() {
    const ToolResult made = run_tool({"quantize", kStories, "-o", bundle});
    REQUIRE_MESSAGE(made.exit_code == 0, made.err);
    openssl("genpkey -algorithm ed25519 -out secret.pem");
    openssl("pkey -in secret.pem -pubout -out public.pem");
    openssl("genpkey -algorithm ed25519 -out other-secret.pem");
    openssl("pkey -in other-secret.pem -pubout -out other.pem");
  }

  bool try_openssl(const std::string& arguments) const {
    const std::string command =
        "cd '" + directory.path() + "' && openssl " + arguments + " >openssl.log 2>&1";
    return system(command.c_str()) == 0;
  }
  void openssl(const std::string& arguments) const {
    INFO("openssl ", arguments);
    REQUIRE(try_openssl(arguments));
  }
};

// As FORMAT.md says it.
std::string signed_message(const std::string& bundle) {
  return "FLEXQ-BUNDLE-1" + bundle.substr(64, 32);
}

std::string hexadecimal(const std::string& bytes) {
  std::string text;
  for (const char byte : bytes) {
    char digits[3];
    snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(byte));
    text += digits;
  }
  return text;
}

}  // namespace

TEST_CASE("T36_tool_signatures: openssl accepts what the tool signs") {
  const Workplace place;
  const auto result =
      run_json({"sign", place.bundle, "--secret-key", place.secret, "--threads", "2"});
  const std::string bundle = read_whole_file(place.bundle);
  place.openssl("pkey -pubin -in public.pem -outform DER -out public.der");
  const std::string der = read_whole_file(place.directory.file("public.der"));
  const std::string key = der.substr(der.size() - 32);
  CHECK(result["ok"] == true);
  CHECK(result["key_id"] == hexadecimal(key));
  CHECK((bundle.substr(160, 32) == key));

  write_whole_file(place.directory.file("message"), signed_message(bundle));
  write_whole_file(place.directory.file("signature"), bundle.substr(96, 64));
  const std::string verify = "pkeyutl -verify -rawin -in message -sigfile signature -pubin -inkey ";
  place.openssl(verify + "public.pem");
  CHECK_FALSE(place.try_openssl(verify + "other.pem"));
}

TEST_CASE("T36_tool_signatures: the tool accepts what openssl signs") {
  const Workplace place;
  std::string bundle = read_whole_file(place.bundle);
  write_whole_file(place.directory.file("message"), signed_message(bundle));
  place.openssl("pkeyutl -sign -rawin -in message -inkey secret.pem -out signature");
  place.openssl("pkey -pubin -in public.pem -outform DER -out public.der");
  const std::string der = read_whole_file(place.directory.file("public.der"));
  bundle.replace(96, 64, read_whole_file(place.directory.file("signature")));
  bundle.replace(160, 32, der.substr(der.size() - 32));
  write_whole_file(place.bundle, bundle);
  const auto verified = run_json({"verify", place.bundle, "--public-key", place.published});
  CHECK(verified["key_id"] == hexadecimal(der.substr(der.size() - 32)));
  // Ed25519 has one signature of a message: the tool's own is the same.
  run_json({"sign", place.bundle, "--secret-key", place.secret});
  CHECK((read_whole_file(place.bundle) == bundle));
}

TEST_CASE("T36_tool_signatures: --public-key of every command that opens bundles") {
  const Workplace place;
  const std::string story = kStories + "/greedy.txt";
  const std::vector<std::vector<std::string>> commands = {
      {"inspect", place.bundle},
      {"verify", place.bundle},
      {"tokenize", place.bundle, "--text", "a"},
      {"run", place.bundle, "-p", "a", "-n", "1"},
      {"eval", "perplexity", place.bundle, "--text", story, "--window", "64"},
      {"eval", "compare", place.bundle, place.bundle, "--text", story, "--window", "64"}};
  const auto run_with_key = [](std::vector<std::string> command, const std::string& key) {
    command.insert(command.end(), {"--public-key", key});
    return run_tool(command);
  };
  for (const auto& command : commands) {
    CAPTURE(command[0]);
    check_failure(run_with_key(command, place.published), 1, {"model.flexq", "unsigned"});
  }
  check_failure(
      run_tool({"chat", place.bundle, "--template", "vicuna", "--public-key", place.published}), 1,
      {"model.flexq", "unsigned"});
  REQUIRE(run_tool({"sign", place.bundle, "--secret-key", place.secret}).exit_code == 0);
  for (const auto& command : commands) {
    CAPTURE(command[0]);
    const ToolResult right = run_with_key(command, place.published);
    CHECK_MESSAGE(right.exit_code == 0, right.err);
    check_failure(run_with_key(command, place.other), 1, {"model.flexq", "expected the signature"});
    CHECK(run_tool(command).exit_code == 0);
  }
  check_failure(run_with_key({"run", kStories, "-p", "a"}, place.published), 1, {"no signature"});
  check_failure(run_with_key(commands[0], place.directory.file("absent")), 1, {"absent"});
  check_failure(run_with_key(commands[0], place.secret), 1, {"secret.pem", "\"PRIVATE KEY\""});
}

TEST_CASE("T36_tool_signatures: what inspect and verify say") {
  const Workplace place;
  CHECK(run_tool({"verify", place.bundle}).out.find(", unsigned\n") != std::string::npos);
  CHECK(run_json({"verify", place.bundle})["key_id"].is_null());
  write_whole_file(place.secret, kTestSecretKey);
  const std::string key_id(kTestKeyId);
  CHECK(run_tool({"sign", place.bundle, "--secret-key", place.secret})
            .out.ends_with("model.flexq: signed with the key " + key_id + "\n"));
  CHECK(run_tool({"verify", place.bundle}).out.ends_with(", signed with the key " + key_id + "\n"));
  CHECK(run_json({"verify", place.bundle})["key_id"] == key_id);
  CHECK(run_json({"inspect", place.bundle})["signature"]["key_id"] == key_id);
  CHECK(run_tool({"inspect", place.bundle}).out.find("key_id: " + key_id) != std::string::npos);
}

TEST_CASE("T36_tool_signatures: secret keys that do not serve") {
  const Workplace place;
  const std::string before = read_whole_file(place.bundle);
  const auto check_refused = [&](const std::string& key,
                                 std::initializer_list<std::string_view> parts) {
    check_failure(run_tool({"sign", place.bundle, "--secret-key", key}), 1, parts);
    CHECK((read_whole_file(place.bundle) == before));
  };
  const std::string file = place.directory.file("key.pem");
  check_refused(place.directory.file("absent"), {"absent"});
  check_refused(place.published, {"model.flexq", "\"PUBLIC KEY\""});
  place.openssl("genpkey -algorithm ed25519 -aes256 -pass pass:secret -out key.pem");
  check_refused(file, {"encrypted"});
  place.openssl("genpkey -algorithm ed448 -out key.pem");
  check_refused(file, {"another kind"});
  place.openssl("ecparam -genkey -name prime256v1 -noout -out key.pem");
  check_refused(file, {"\"EC PRIVATE KEY\""});
  write_whole_file(file, std::string(20000, 'x'));
  check_refused(file, {"key.pem", "fewer than 16384 bytes"});
  check_failure(run_tool({"sign", place.directory.file("absent"), "--secret-key", place.secret}), 1,
                {"absent"});
  check_failure(run_tool({"sign", place.bundle}), 2, {"--secret-key"});
}

TEST_CASE("T36_tool_signatures: an encrypted key asks no terminal, and a pipe brings a key") {
  const Workplace place;
  place.openssl("pkey -in secret.pem -aes256 -passout pass:secret -out encrypted.pem");
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(terminal >= 0);
  REQUIRE(grantpt(terminal) == 0);
  REQUIRE(unlockpt(terminal) == 0);
  const int line = open(ptsname(terminal), O_RDWR | O_NOCTTY);
  REQUIRE(line >= 0);
  ToolProcess process({"sign", place.bundle, "--secret-key", place.directory.file("encrypted.pem")},
                      {.terminal = line});
  CHECK(process.wait().exit_code == 1);  // and does not wait for anybody
  close(line);
  close(terminal);
  const ToolResult piped = run_tool({"sign", place.bundle, "--secret-key", "-"},
                                    {.stdin_text = read_whole_file(place.secret)});
  CHECK_MESSAGE(piped.exit_code == 0, piped.err);
  CHECK(run_tool({"verify", place.bundle, "--public-key", place.published}).exit_code == 0);
}

TEST_CASE("T36_tool_signatures: a full disk leaves the unsigned bundle") {
  const Workplace place;
  const std::string before = read_whole_file(place.bundle);
  check_failure(
      run_tool({"sign", place.bundle, "--secret-key", place.secret}, {.max_file_bytes = 100'000}),
      1, {"model.flexq"});
  CHECK((read_whole_file(place.bundle) == before));
  for (const auto& entry : std::filesystem::directory_iterator(place.directory.path()))
    CHECK(entry.path().filename().string().find("flexq-tmp") == std::string::npos);
}
