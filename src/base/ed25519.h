// Ed25519 signatures (RFC 8032) by libcrypto.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "base/status.h"

struct evp_pkey_st;

namespace flexq {

using Ed25519PublicKey = std::array<uint8_t, 32>;
using Ed25519Signature = std::array<uint8_t, 64>;

// A key that signs. Its bytes lie in libcrypto's memory and are overwritten when it goes.
class Ed25519SecretKey {
 public:
  static constexpr size_t kSeedBytes = 32;

  // Copies the seed; the caller overwrites his own.
  explicit Ed25519SecretKey(std::span<const uint8_t, kSeedBytes> seed);

  Ed25519PublicKey public_key() const;
  // The same message gives the same signature.
  Ed25519Signature sign(std::span<const uint8_t> message) const;

 private:
  std::shared_ptr<evp_pkey_st> key_;
};

// Whether a secret key can have this public key, as far as its encoding tells: the coordinate is
// reduced, and the point is not one of the eight of small order. With those a "signature" can be
// made that fits without any secret, which libcrypto accepts.
bool is_signing_key(const Ed25519PublicKey& key);

// Whether the owner of the key signed the message. False for a signature whose number S is not
// reduced, so that no second signature can be made from one.
bool verify_signature(const Ed25519PublicKey& key, std::span<const uint8_t> message,
                      const Ed25519Signature& signature);

}  // namespace flexq
