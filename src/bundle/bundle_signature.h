// What a bundle's signature covers, and its check.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "base/ed25519.h"
#include "bundle/bundle_header.h"

namespace flexq {

// The 46 bytes that are signed: "FLEXQ-BUNDLE-1", then the hash of header and directory. The
// directory has the hash of every chunk and the zeros between them are checked, so this is the
// whole file.
using SignedMessage = std::array<uint8_t, 14 + std::tuple_size<Sha256Digest>::value>;
SignedMessage signed_message(const Sha256Digest& sha256);

// kSignature where the bundle is signed and its signature does not fit the key that it carries;
// with a required key also where it is unsigned or carries another one. header.sha256 must have
// been compared with the bytes before.
Status check_signature(const BundleHeader& header,
                       const std::optional<Ed25519PublicKey>& required_key,
                       const std::string& source);

}  // namespace flexq
