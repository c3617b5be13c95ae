#include "base/sha256.h"

#include <openssl/evp.h>

#include <new>

#include "base/crypto_library.h"

namespace flexq {
namespace {

const EVP_MD* fetch_method() {
  const EVP_MD* method = EVP_MD_fetch(crypto_context(), "SHA256", nullptr);
  if (method == nullptr) throw std::bad_alloc();
  return method;
}

// Never freed, as the context.
const EVP_MD* sha256_method() {
  static const EVP_MD* const method = fetch_method();
  return method;
}

// With a built-in method these calls fail for want of memory only. A digest that was not computed
// must never be compared with anything, hence no fallback value.
void require(int success) {
  if (success != 1) throw std::bad_alloc();
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context;
  State() {
    const OwnErrors errors;
    context = EVP_MD_CTX_new();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  const OwnErrors errors;
  require(state_->context != nullptr ? 1 : 0);
  require(EVP_DigestInit_ex2(state_->context, sha256_method(), nullptr));
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const uint8_t> bytes) {
  const OwnErrors errors;
  require(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()));
}

Sha256Digest Sha256::finish() {
  const OwnErrors errors;
  Sha256Digest digest{};
  require(EVP_DigestFinal_ex(state_->context, digest.data(), nullptr));
  return digest;
}

Sha256Digest sha256(std::span<const uint8_t> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

}  // namespace flexq
