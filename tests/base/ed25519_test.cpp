// Ed25519 against the vectors of RFC 8032, and keys in PEM against those that OpenSSL writes.
#include "base/ed25519.h"

#include <doctest/doctest.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <memory>
#include <string>
#include <vector>

#include "base/ed25519_keys.h"
#include "base/hexadecimal.h"

namespace flexq::test {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes from_hexadecimal(const std::string& text) {
  Bytes bytes;
  for (size_t i = 0; i < text.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

template <size_t N>
std::array<uint8_t, N> array_of(const std::string& text) {
  const Bytes bytes = from_hexadecimal(text);
  REQUIRE(bytes.size() == N);
  std::array<uint8_t, N> array{};
  std::copy(bytes.begin(), bytes.end(), array.begin());
  return array;
}

// RFC 8032, section 7.1.
struct Vector {
  const char* secret;
  const char* key;
  const char* message;
  const char* signature;
};
constexpr Vector kVectors[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b"
     "4"
     "6bd25bf5f0595bbe24655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11"
     "d"
     "8c387b2eaeb4302aeeb00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc"
     "6"
     "594a7c15e9716ed28dc027beceea1ec40a"},
};

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

Key raw_key(int type, uint8_t fill, size_t n_bytes = 32) {
  const Bytes seed(n_bytes, fill);
  return Key(EVP_PKEY_new_raw_private_key(type, nullptr, seed.data(), seed.size()));
}

// What OpenSSL writes; `cipher`: encrypted.
std::string pem_of(const Key& key, bool is_secret, const EVP_CIPHER* cipher = nullptr,
                   bool traditional = false) {
  REQUIRE(key != nullptr);
  const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), BIO_free);
  char password[] = "secret";
  auto* const bytes = reinterpret_cast<unsigned char*>(password);
  const int written = !is_secret    ? PEM_write_bio_PUBKEY(out.get(), key.get())
                      : traditional ? PEM_write_bio_PrivateKey_traditional(
                                          out.get(), key.get(), cipher, bytes, 6, nullptr, nullptr)
                                    : PEM_write_bio_PKCS8PrivateKey(out.get(), key.get(), cipher,
                                                                    password, 6, nullptr, nullptr);
  REQUIRE(written == 1);
  char* data = nullptr;
  const long n_bytes = BIO_get_mem_data(out.get(), &data);
  return std::string(data, static_cast<size_t>(n_bytes));
}

void check_refused(const Status& status, const std::string& fragment) {
  CHECK(status.code() == StatusCode::kInvalidArgument);
  const std::string message = status.message();
  CHECK_MESSAGE(message.find(fragment) != std::string::npos, message << " lacks: " << fragment);
}

void check_secret_refused(const std::string& pem, const std::string& fragment) {
  check_refused(parse_secret_key(pem).status(), fragment);
}

void check_public_refused(const std::string& pem, const std::string& fragment) {
  check_refused(parse_public_key(pem).status(), fragment);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("ed25519: the vectors of RFC 8032") {
  for (const Vector& vector : kVectors) {
    const auto seed = array_of<32>(vector.secret);
    const Ed25519SecretKey key(seed);
    const Bytes message = from_hexadecimal(vector.message);
    CHECK(hexadecimal(key.public_key()) == vector.key);
    CHECK(hexadecimal(key.sign(message)) == vector.signature);
    const auto signature = array_of<64>(vector.signature);
    CHECK(verify_signature(key.public_key(), message, signature));
    Bytes longer = message;
    longer.push_back(0);
    CHECK_FALSE(verify_signature(key.public_key(), longer, signature));
  }
}

TEST_CASE("ed25519: keys that OpenSSL writes") {
  const Key key = raw_key(EVP_PKEY_ED25519, 7);
  Bytes seed(32, 7);
  const Ed25519SecretKey expected(std::span<const uint8_t, 32>(seed.data(), 32));
  const std::string secret = pem_of(key, true);
  const std::string published = pem_of(key, false);
  const auto parsed = parse_secret_key(secret);
  REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
  CHECK(parsed->public_key() == expected.public_key());
  const auto parsed_public = parse_public_key(published);
  REQUIRE_MESSAGE(parsed_public.ok(), parsed_public.status().message());
  CHECK(*parsed_public == expected.public_key());
  // Text around the block, other line breaks, other line lengths.
  for (const std::string& pem :
       {"a comment\n" + published + "\nmore", replaced(published, "\n", "\r\n"),
        replaced(published, "MCow", "MC\now")}) {
    const auto again = parse_public_key(pem);
    REQUIRE_MESSAGE(again.ok(), again.status().message());
    CHECK(*again == expected.public_key());
  }
}

TEST_CASE("ed25519: what is no such key is refused by name") {
  const Key key = raw_key(EVP_PKEY_ED25519, 7);
  const std::string secret = pem_of(key, true);
  const std::string published = pem_of(key, false);
  check_public_refused("", "found no \"-----BEGIN\"");
  check_secret_refused(std::string(100, '\0'), "found no \"-----BEGIN\"");
  check_public_refused(secret, "one block \"PUBLIC KEY\", found \"PRIVATE KEY\"");
  check_secret_refused(published, "one block \"PRIVATE KEY\", found \"PUBLIC KEY\"");
  check_public_refused(published + published, "found several blocks");
  check_secret_refused("-----BEGIN", "found no \"-----BEGIN\"");
  check_secret_refused("-----BEGIN x\x01\n-----", "found another one");
  check_secret_refused("-----BEGIN PRIVATE KEY", "found half a line");
  check_secret_refused("-----BEGIN PRIVATE KEY-----", "no end of the block");
  check_public_refused(replaced(published, "-----END PUBLIC", "-----END PRIVATE"), "no end of the");
  check_public_refused(replaced(published, "MCow", "M*ow"), "expected base64");
  check_public_refused(replaced(published, "MCow", ""), "another kind");
  check_public_refused(replaced(published, "MCow", "MCoxMCow"), "another kind");
  check_public_refused("-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----", "another kind");
  for (const int type : {EVP_PKEY_X25519, EVP_PKEY_ED448}) {
    const Key other = raw_key(type, 9, type == EVP_PKEY_ED448 ? 57 : 32);
    check_secret_refused(pem_of(other, true), "another kind");
    check_public_refused(pem_of(other, false), "another kind");
  }
  const Key curve(EVP_EC_gen("P-256"));
  check_secret_refused(pem_of(curve, true), "another kind");
  check_secret_refused(pem_of(curve, true, nullptr, true), "found \"EC PRIVATE KEY\"");
}

TEST_CASE("ed25519: encrypted keys are refused, and nobody is asked for a password") {
  const Key key = raw_key(EVP_PKEY_ED25519, 7);
  check_secret_refused(pem_of(key, true, EVP_aes_256_cbc()), "encrypted");
  // The older form, as of an RSA key: a header inside of a block with an ordinary name.
  check_secret_refused(
      "-----BEGIN PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMCow\n"
      "-----END PRIVATE KEY-----\n",
      "encrypted");
}

TEST_CASE("ed25519: a public key that anybody can sign for is refused") {
  // y = 1, the neutral element.
  check_public_refused(
      "-----BEGIN PUBLIC KEY-----\n"
      "MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
      "-----END PUBLIC KEY-----\n",
      "small order");
}

TEST_CASE("ed25519: no message has anything of a secret key in it") {
  const std::string secret = pem_of(raw_key(EVP_PKEY_ED25519, 7), true);
  const std::string digits = secret.substr(secret.find('\n') + 1, 64);
  for (size_t at = 0; at < secret.size(); ++at) {
    std::string damaged = secret;
    damaged[at] = '*';
    const auto parsed = parse_secret_key(damaged);
    if (parsed.ok()) continue;
    for (size_t i = 0; i + 8 <= digits.size(); i += 4)
      REQUIRE(parsed.status().message().find(digits.substr(i, 8)) == std::string::npos);
  }
  check_secret_refused("-----BEGIN " + digits + "-----", "found another one");
}

}  // namespace flexq::test
