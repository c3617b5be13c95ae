// libcrypto as this library uses it: the host's OpenSSL, which may be the same one, neither changes
// nor sees it.
#pragma once

#include <openssl/err.h>
#include <openssl/types.h>

namespace flexq {

// What fails in its scope leaves nothing in the thread's OpenSSL error queue, which is the host's.
class OwnErrors {
 public:
  OwnErrors() { ERR_set_mark(); }
  ~OwnErrors() { ERR_pop_to_mark(); }
  OwnErrors(const OwnErrors&) = delete;
  OwnErrors& operator=(const OwnErrors&) = delete;
};

// A library context of our own, so that the host's OpenSSL configuration (other providers, FIPS
// mode) neither changes nor breaks what is computed. Throws std::bad_alloc where it cannot be made.
OSSL_LIB_CTX* crypto_context();

}  // namespace flexq
