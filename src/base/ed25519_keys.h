// Ed25519 keys in PEM (RFC 7468, RFC 8410), as `openssl genpkey -algorithm ed25519` and `openssl
// pkey -pubout` write them.
#pragma once

#include <string_view>

#include "base/ed25519.h"

namespace flexq {

// kInvalidArgument for anything but one block "PUBLIC KEY" with an ed25519 key that can sign. Text
// around the block is allowed.
Result<Ed25519PublicKey> parse_public_key(std::string_view pem);

// Likewise one block "PRIVATE KEY". Encrypted keys are refused: nobody is asked for a password. No
// message contains anything of the key, and no copy of it is left in memory.
Result<Ed25519SecretKey> parse_secret_key(std::string_view pem);

}  // namespace flexq
