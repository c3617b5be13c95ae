#include "base/crypto_library.h"

#include <openssl/crypto.h>
#include <openssl/provider.h>

#include <new>

namespace flexq {
namespace {

OSSL_LIB_CTX* make_context() {
  const OwnErrors errors;
  OSSL_LIB_CTX* context = OSSL_LIB_CTX_new();
  if (context == nullptr || OSSL_PROVIDER_load(context, "default") == nullptr) {
    OSSL_LIB_CTX_free(context);
    throw std::bad_alloc();
  }
  return context;
}

}  // namespace

OSSL_LIB_CTX* crypto_context() {
  // Never freed: OpenSSL's own exit handler may run before our destructors would.
  static OSSL_LIB_CTX* const context = make_context();
  return context;
}

}  // namespace flexq
