#include "base/ed25519_keys.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <string>

#include "base/base64.h"

namespace flexq {
namespace {

// DER has one encoding of an ed25519 key: this, then its 32 bytes.
constexpr std::string_view kPublicKeyPrefix(
    "\x30\x2a"                      // SubjectPublicKeyInfo, 42 bytes
    "\x30\x05\x06\x03\x2b\x65\x70"  //   algorithm 1.3.101.112
    "\x03\x21\x00",                 //   bit string
    12);
constexpr std::string_view kSecretKeyPrefix(
    "\x30\x2e"                      // PrivateKeyInfo, 46 bytes
    "\x02\x01\x00"                  //   version
    "\x30\x05\x06\x03\x2b\x65\x70"  //   algorithm 1.3.101.112
    "\x04\x22\x04\x20",             //   octet string in an octet string
    16);
constexpr size_t kKeyBytes = 32;

// Text that is overwritten when it goes. It never grows beyond the room that it begins with:
// growing would leave a copy behind.
class WipedText {
 public:
  explicit WipedText(size_t capacity) { text.reserve(capacity); }
  WipedText(const WipedText&) = delete;
  WipedText& operator=(const WipedText&) = delete;
  ~WipedText() { OPENSSL_cleanse(text.data(), text.capacity()); }

  std::string text;
};

Status bad_key(const char* kind, const std::string& problem) {
  return Status::error(StatusCode::kInvalidArgument, "%s key: %s", kind, problem.c_str());
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// What stands between the lines "-----BEGIN LABEL-----" and "-----END LABEL-----" of the only block
// of the text.
Status find_block(std::string_view pem, const char* kind, const std::string& label,
                  std::string_view* body) {
  constexpr std::string_view kBegin = "-----BEGIN ";
  constexpr std::string_view kDashes = "-----";
  constexpr char kEncrypted[] =
      "expected a key that is not encrypted, found an encrypted one; \"openssl pkey\" decrypts it";
  const std::string expected = "expected PEM, one block \"" + label + "\", found ";
  const size_t begin = pem.find(kBegin);
  if (begin == std::string_view::npos) return bad_key(kind, expected + "no \"-----BEGIN\"");
  if (pem.find(kBegin, begin + 1) != std::string_view::npos)
    return bad_key(kind, expected + "several blocks");
  const std::string_view rest = pem.substr(begin + kBegin.size());
  const size_t label_end = rest.find(kDashes);
  if (label_end == std::string_view::npos) return bad_key(kind, expected + "half a line of one");
  const std::string_view found = rest.substr(0, label_end);
  if (found.starts_with("ENCRYPTED")) return bad_key(kind, kEncrypted);
  if (found != label) {
    // A label has capital letters, and no message repeats anything else.
    const bool is_label = found.size() < 40 && std::all_of(found.begin(), found.end(), [](char c) {
                            return (c >= 'A' && c <= 'Z') || c == ' ';
                          });
    return bad_key(kind, expected + (is_label ? "\"" + std::string(found) + "\"" : "another one"));
  }
  const std::string_view behind = rest.substr(label_end + kDashes.size());
  const size_t end = behind.find("-----END " + label + "-----");
  if (end == std::string_view::npos) return bad_key(kind, expected + "no end of the block");
  *body = behind.substr(0, end);
  if (body->find("Proc-Type:") != std::string_view::npos) return bad_key(kind, kEncrypted);
  return {};
}

// Calls use(the 32 bytes). All by hand: libcrypto's readers of PEM leave copies of a secret key in
// memory that they have freed.
template <typename Use>
Status read_key(std::string_view pem, const char* kind, const std::string& label,
                std::string_view prefix, Use use) {
  std::string_view body;
  FLEXQ_RETURN_IF_ERROR(find_block(pem, kind, label, &body));
  WipedText digits(body.size());
  std::copy_if(body.begin(), body.end(), std::back_inserter(digits.text),
               [](char c) { return !is_space(c); });
  WipedText der(digits.text.size());
  if (!decode_base64(digits.text, der.text))
    return bad_key(kind, "expected base64 in the block \"" + label + "\", found other characters");
  if (der.text.size() != prefix.size() + kKeyBytes || !der.text.starts_with(prefix))
    return bad_key(kind, "expected an ed25519 key, found a key of another kind");
  return use(std::span<const uint8_t, kKeyBytes>(
      reinterpret_cast<const uint8_t*>(der.text.data()) + prefix.size(), kKeyBytes));
}

}  // namespace

Result<Ed25519PublicKey> parse_public_key(std::string_view pem) {
  Ed25519PublicKey key{};
  FLEXQ_RETURN_IF_ERROR(
      read_key(pem, "public", "PUBLIC KEY", kPublicKeyPrefix, [&](auto bytes) -> Status {
        std::copy(bytes.begin(), bytes.end(), key.begin());
        if (is_signing_key(key)) return {};
        return bad_key("public",
                       "expected a point that a secret key leads to, found one of small "
                       "order or not reduced");
      }));
  return key;
}

Result<Ed25519SecretKey> parse_secret_key(std::string_view pem) {
  std::optional<Ed25519SecretKey> key;
  FLEXQ_RETURN_IF_ERROR(
      read_key(pem, "secret", "PRIVATE KEY", kSecretKeyPrefix, [&](auto bytes) -> Status {
        key.emplace(bytes);
        return {};
      }));
  return std::move(*key);
}

}  // namespace flexq
