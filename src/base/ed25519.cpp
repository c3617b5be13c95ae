#include "base/ed25519.h"

#include <openssl/evp.h>

#include <algorithm>
#include <new>

#include "base/crypto_library.h"

namespace flexq {
namespace {

constexpr char kAlgorithm[] = "ED25519";

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_MD_CTX, FreeContext>;

// With a built-in algorithm and keys of the right size these calls fail for want of memory only.
void require(int success) {
  if (success != 1) throw std::bad_alloc();
}

std::shared_ptr<EVP_PKEY> owned(EVP_PKEY* key) {
  require(key != nullptr ? 1 : 0);
  return std::shared_ptr<EVP_PKEY>(key, EVP_PKEY_free);
}

Context make_context() {
  Context context(EVP_MD_CTX_new());
  require(context != nullptr ? 1 : 0);
  return context;
}

bool libcrypto_accepts(const Ed25519PublicKey& key, std::span<const uint8_t> message,
                       const Ed25519Signature& signature) {
  const OwnErrors errors;
  const auto made = owned(EVP_PKEY_new_raw_public_key_ex(crypto_context(), kAlgorithm, nullptr,
                                                         key.data(), key.size()));
  const Context context = make_context();
  require(EVP_DigestVerifyInit_ex(context.get(), nullptr, nullptr, crypto_context(), nullptr,
                                  made.get(), nullptr));
  return EVP_DigestVerify(context.get(), signature.data(), signature.size(), message.data(),
                          message.size()) == 1;
}

// Test 1 of RFC 8032, section 7.1: the signature of the empty message.
bool accepts_known_signature() {
  constexpr Ed25519PublicKey kKey = {0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7,
                                     0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
                                     0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25,
                                     0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};
  constexpr Ed25519Signature kSignature = {
      0xe5, 0x56, 0x43, 0x00, 0xc3, 0x60, 0xac, 0x72, 0x90, 0x86, 0xe2, 0xcc, 0x80,
      0x6e, 0x82, 0x8a, 0x84, 0x87, 0x7f, 0x1e, 0xb8, 0xe5, 0xd9, 0x74, 0xd8, 0x73,
      0xe0, 0x65, 0x22, 0x49, 0x01, 0x55, 0x5f, 0xb8, 0x82, 0x15, 0x90, 0xa3, 0x3b,
      0xac, 0xc6, 0x1e, 0x39, 0x70, 0x1c, 0xf9, 0xb4, 0x6b, 0xd2, 0x5b, 0xf5, 0xf0,
      0x59, 0x5b, 0xbe, 0x24, 0x65, 0x51, 0x41, 0x43, 0x8e, 0x7a, 0x10, 0x0b};
  return libcrypto_accepts(kKey, {}, kSignature);
}

}  // namespace

Ed25519SecretKey::Ed25519SecretKey(std::span<const uint8_t, kSeedBytes> seed) {
  const OwnErrors errors;
  key_ = owned(EVP_PKEY_new_raw_private_key_ex(crypto_context(), kAlgorithm, nullptr, seed.data(),
                                               seed.size()));
}

Ed25519PublicKey Ed25519SecretKey::public_key() const {
  const OwnErrors errors;
  Ed25519PublicKey key{};
  size_t n_bytes = key.size();
  require(EVP_PKEY_get_raw_public_key(key_.get(), key.data(), &n_bytes));
  return key;
}

Ed25519Signature Ed25519SecretKey::sign(std::span<const uint8_t> message) const {
  const OwnErrors errors;
  const Context context = make_context();
  require(EVP_DigestSignInit_ex(context.get(), nullptr, nullptr, crypto_context(), nullptr,
                                key_.get(), nullptr));
  Ed25519Signature signature{};
  size_t n_bytes = signature.size();
  require(
      EVP_DigestSign(context.get(), signature.data(), &n_bytes, message.data(), message.size()));
  return signature;
}

bool is_signing_key(const Ed25519PublicKey& key) {
  // The coordinate y, little-endian, without the sign of x in the highest bit.
  Ed25519PublicKey y = key;
  y.back() &= 0x7f;
  // From 2^255 - 19, the prime, to 2^255 - 1.
  const bool is_reduced =
      y.front() < 0xed || y.back() != 0x7f ||
      std::any_of(y.begin() + 1, y.end() - 1, [](uint8_t byte) { return byte != 0xff; });
  // Of the points whose order divides 8: 0, 1, -1, and the two of order 8.
  constexpr Ed25519PublicKey kSmallOrder[] = {
      {0},
      {1},
      {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
      {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
       0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
       0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
      {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
       0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
       0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a}};
  return is_reduced &&
         std::find(std::begin(kSmallOrder), std::end(kSmallOrder), y) == std::end(kSmallOrder);
}

bool verify_signature(const Ed25519PublicKey& key, std::span<const uint8_t> message,
                      const Ed25519Signature& signature) {
  if (!is_signing_key(key)) return false;
  if (libcrypto_accepts(key, message, signature)) return true;
  // libcrypto gives the same answer where it had no memory. So it is asked again, after it accepted
  // what is right.
  require(accepts_known_signature() ? 1 : 0);
  return libcrypto_accepts(key, message, signature);
}

}  // namespace flexq
