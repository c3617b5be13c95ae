#include "bundle/bundle_signature.h"

#include <algorithm>
#include <string_view>

#include "base/hexadecimal.h"

namespace flexq {

SignedMessage signed_message(const Sha256Digest& sha256) {
  constexpr std::string_view kPurpose = "FLEXQ-BUNDLE-1";
  SignedMessage message{};
  static_assert(sizeof message == kPurpose.size() + sizeof(Sha256Digest));
  const auto end = std::copy(kPurpose.begin(), kPurpose.end(), message.begin());
  std::copy(sha256.begin(), sha256.end(), end);
  return message;
}

Status check_signature(const BundleHeader& header,
                       const std::optional<Ed25519PublicKey>& required_key,
                       const std::string& source) {
  const std::string found = hexadecimal(header.key_id);
  const std::string expected = required_key ? hexadecimal(*required_key) : found;
  if (!header.is_signed()) {
    if (!required_key) return {};
    return Status::error(StatusCode::kSignature,
                         "%s: expected a bundle signed with the key %s, found an unsigned one",
                         source.c_str(), expected.c_str());
  }
  if (found != expected)
    return Status::error(StatusCode::kSignature,
                         "%s: expected the signature of the key %s, found %s", source.c_str(),
                         expected.c_str(), found.c_str());
  if (!verify_signature(header.key_id, signed_message(header.sha256), header.signature))
    return Status::error(StatusCode::kSignature,
                         "%s: the signature does not fit header and directory and the key %s",
                         source.c_str(), found.c_str());
  return {};
}

}  // namespace flexq
