// T36: a bundle with a signature is accepted only as it was signed, and with a required key only
// from its owner; nothing of the directory is looked at before.
#include <doctest/doctest.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "base/byte_source.h"
#include "base/ed25519.h"
#include "base/hexadecimal.h"
#include "bundle/bundle_parts.h"
#include "bundle/bundle_reader.h"

namespace flexq::test {
namespace {

// As in FORMAT.md.
constexpr size_t kHashAt = 64;
constexpr size_t kSignatureAt = 96;
constexpr size_t kKeyAt = 160;
constexpr size_t kRoomEnd = 192;

using RequiredKey = std::optional<Ed25519PublicKey>;

Ed25519SecretKey secret_key(uint8_t fill) {
  std::array<uint8_t, 32> seed;
  seed.fill(fill);
  return Ed25519SecretKey(seed);
}

const Ed25519SecretKey& our_key() {
  static const Ed25519SecretKey key = secret_key(0x11);
  return key;
}

const Ed25519SecretKey& other_key() {
  static const Ed25519SecretKey key = secret_key(0x22);
  return key;
}

// What FORMAT.md says is signed, without the library.
Bytes message_of(const Bytes& bundle) {
  constexpr std::string_view kPurpose = "FLEXQ-BUNDLE-1";
  Bytes message(kPurpose.size() + kSignatureAt - kHashAt);
  std::copy(kPurpose.begin(), kPurpose.end(), message.begin());
  std::copy(bundle.begin() + kHashAt, bundle.begin() + kSignatureAt,
            message.begin() + std::ssize(kPurpose));
  return message;
}

void put(Bytes& bundle, size_t at, std::span<const uint8_t> bytes) {
  std::copy(bytes.begin(), bytes.end(), bundle.begin() + static_cast<ptrdiff_t>(at));
}

Bytes sign(Bytes bundle, const Ed25519SecretKey& key = our_key()) {
  put(bundle, kSignatureAt, key.sign(message_of(bundle)));
  put(bundle, kKeyAt, key.public_key());
  return bundle;
}

const Bytes& signed_bundle() {
  static const Bytes bundle = sign(tiny_bundle());
  return bundle;
}

Bytes other_bundle() {
  BundleParts parts = take_apart(tiny_bundle());
  parts.directory.provenance.source += " of another model";
  return assemble(parts);
}

// Whether OpenSSL, asked by this test alone, finds the signature in the bundle's header right.
bool openssl_accepts(const Bytes& bundle) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bundle.data() + kKeyAt, 32),
      EVP_PKEY_free);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  REQUIRE(EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1);
  const Bytes message = message_of(bundle);
  return EVP_DigestVerify(context.get(), bundle.data() + kSignatureAt, 64, message.data(),
                          message.size()) == 1;
}

Status open(const Bytes& bytes, const RequiredKey& required = {}) {
  return Bundle::open(make_memory_source(bytes), {}, required).status();
}

// The whole load, with the required key.
Status load_all(const Bytes& bytes, const RequiredKey& required = {}) {
  auto bundle = Bundle::open(make_memory_source(bytes), {}, required);
  if (!bundle.ok()) return bundle.status();
  ThreadPool pool(1);
  return (*bundle)->verify(pool, {});
}

void check_accepted(const Status& status) {
  CHECK_MESSAGE(status.ok(), status.message());
}

void check_refused(const Status& status, StatusCode code, const std::string& fragment) {
  CHECK(status.code() == code);
  const std::string message = status.message();
  CHECK_MESSAGE(message.find(fragment) != std::string::npos, message << " lacks: " << fragment);
}

void check_signature_refused(const Status& status, const std::string& fragment) {
  check_refused(status, StatusCode::kSignature, fragment);
}

bool is_clean_refusal(const Status& status) {
  return status.code() == StatusCode::kCorrupt || status.code() == StatusCode::kSignature ||
         status.code() == StatusCode::kUnsupportedVersion ||
         status.code() == StatusCode::kLimitExceeded;
}

int64_t segment_base_of(const Bytes& bundle) {
  return take_apart(bundle).header.segment_base;
}

// Writes down which ranges are read.
class RecordingSource : public ByteSource {
 public:
  using Range = std::pair<int64_t, int64_t>;  // begin, end

  RecordingSource(const Bytes& bytes, std::vector<Range>& ranges)
      : source_(make_memory_source(bytes)), ranges_(ranges) {}
  const std::string& name() const override { return source_->name(); }
  int64_t size() const override { return source_->size(); }
  Status read_at(int64_t offset, std::span<uint8_t> out) override {
    ranges_.push_back({offset, offset + std::ssize(out)});
    return source_->read_at(offset, out);
  }

 private:
  std::unique_ptr<ByteSource> source_;
  std::vector<Range>& ranges_;
};

// A bundle whose directory is no FlatBuffer.
Bytes bundle_with_wild_directory() {
  const BundleParts parts = take_apart(tiny_bundle());
  return assemble(parts.header, Bytes(1000, 0xff), Bytes(kSegmentAlignment, 0));
}

}  // namespace

TEST_CASE("T36_signatures: the right key, and no required one") {
  check_accepted(load_all(tiny_bundle()));
  check_accepted(load_all(signed_bundle()));
  check_accepted(load_all(signed_bundle(), our_key().public_key()));
  const auto bundle = Bundle::open(make_memory_source(signed_bundle()), {});
  REQUIRE(bundle.ok());
  REQUIRE((*bundle)->signer() != nullptr);
  CHECK(*(*bundle)->signer() == our_key().public_key());
  const auto plain = Bundle::open(make_memory_source(tiny_bundle()), {});
  REQUIRE(plain.ok());
  CHECK((*plain)->signer() == nullptr);
}

TEST_CASE("T36_signatures: a signature is what OpenSSL makes and accepts") {
  CHECK(openssl_accepts(signed_bundle()));
  // The other way round: signed by OpenSSL alone.
  Bytes bundle = tiny_bundle();
  const Bytes seed(32, 0x33);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, seed.data(), seed.size()),
      EVP_PKEY_free);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  REQUIRE(EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1);
  const Bytes message = message_of(bundle);
  size_t n_bytes = 64;
  REQUIRE(EVP_DigestSign(context.get(), bundle.data() + kSignatureAt, &n_bytes, message.data(),
                         message.size()) == 1);
  Ed25519PublicKey public_key{};
  n_bytes = public_key.size();
  REQUIRE(EVP_PKEY_get_raw_public_key(key.get(), public_key.data(), &n_bytes) == 1);
  put(bundle, kKeyAt, public_key);
  check_accepted(load_all(bundle, public_key));
}

TEST_CASE("T36_signatures: wrong key, no signature, half of one") {
  const std::string ours = hexadecimal(our_key().public_key());
  const std::string others = hexadecimal(other_key().public_key());
  const RequiredKey required = our_key().public_key();
  check_signature_refused(open(sign(tiny_bundle(), other_key()), required),
                          "expected the signature of the key " + ours + ", found " + others);
  check_signature_refused(open(tiny_bundle(), required),
                          "expected a bundle signed with the key " + ours + ", found an unsigned");
  // The required key's name on another's signature.
  Bytes renamed = sign(tiny_bundle(), other_key());
  put(renamed, kKeyAt, our_key().public_key());
  for (const RequiredKey& key : {required, RequiredKey()})
    check_signature_refused(open(renamed, key), "does not fit");
  for (const auto& [begin, end] : {std::pair(kSignatureAt, kKeyAt), std::pair(kKeyAt, kRoomEnd)}) {
    Bytes half = signed_bundle();
    std::fill(half.begin() + static_cast<ptrdiff_t>(begin),
              half.begin() + static_cast<ptrdiff_t>(end), uint8_t{0});
    check_signature_refused(open(half), "does not fit");
    CHECK(open(half, required).code() == StatusCode::kSignature);
  }
}

TEST_CASE("T36_signatures: another bundle's signature") {
  const Bytes other = sign(other_bundle());
  check_accepted(load_all(other, our_key().public_key()));
  Bytes bundle = tiny_bundle();
  put(bundle, kSignatureAt, std::span(other).subspan(kSignatureAt, kRoomEnd - kSignatureAt));
  check_signature_refused(open(bundle), "does not fit");
  check_signature_refused(open(bundle, our_key().public_key()), "does not fit");
}

TEST_CASE("T36_signatures: every flipped bit of signature, key, hash, header and directory") {
  const RequiredKey required = our_key().public_key();
  Bytes bundle = signed_bundle();
  const int64_t n_front = segment_base_of(bundle);
  for (int64_t bit = 0; bit < n_front * 8; ++bit) {
    const size_t at = static_cast<size_t>(bit / 8);
    const uint8_t mask = static_cast<uint8_t>(1u << (bit % 8));
    const bool in_room = at >= kSignatureAt && at < kRoomEnd;
    CAPTURE(bit);
    bundle[at] ^= mask;
    const Status status = open(bundle, required);
    REQUIRE(is_clean_refusal(status));
    // Without a required key, too.
    if (in_room) {
      REQUIRE(status.code() == StatusCode::kSignature);
      REQUIRE(open(bundle).code() == StatusCode::kSignature);
    }
    bundle[at] ^= mask;
  }
  check_accepted(load_all(bundle, required));
}

TEST_CASE("T36_signatures: a flipped bit under a new hash") {
  // Whoever changes the file can make its hash right again, but not its signature.
  const Bytes& original = signed_bundle();
  const int64_t n_front = kBundleHeaderBytes + take_apart(original).header.directory_bytes;
  for (int64_t at = kBundleHeaderBytes; at < n_front; ++at) {
    Bytes bundle = original;
    bundle[static_cast<size_t>(at)] ^= 0x04;
    rehash(bundle);
    CAPTURE(at);
    REQUIRE(open(bundle).code() == StatusCode::kSignature);
  }
}

TEST_CASE("T36_signatures: flipped bits behind the directory") {
  Bytes bundle = signed_bundle();
  const RequiredKey required = our_key().public_key();
  for (int64_t bit = segment_base_of(bundle) * 8; bit < std::ssize(bundle) * 8; bit += 61) {
    const size_t at = static_cast<size_t>(bit / 8);
    const uint8_t mask = static_cast<uint8_t>(1u << (bit % 8));
    bundle[at] ^= mask;
    CAPTURE(bit);
    REQUIRE(is_clean_refusal(load_all(bundle, required)));
    bundle[at] ^= mask;
  }
}

TEST_CASE("T36_signatures: trailing bytes and truncations") {
  const RequiredKey required = our_key().public_key();
  const Bytes& original = signed_bundle();
  for (const size_t n_more : {size_t{1}, size_t{64}, size_t{4096}}) {
    Bytes bundle = original;
    bundle.resize(bundle.size() + n_more, 0);
    check_refused(open(bundle, required), StatusCode::kCorrupt, "file size");
    // The header says so as well, under a new hash.
    const uint64_t size = bundle.size();
    std::memcpy(bundle.data() + 40, &size, 8);
    rehash(bundle);
    check_signature_refused(open(bundle, required), "does not fit");
  }
  const int64_t n_front = segment_base_of(original);
  for (int64_t size = 0; size < std::ssize(original); size += size < n_front ? 1 : 509) {
    Bytes bundle(original.begin(), original.begin() + size);
    CAPTURE(size);
    REQUIRE(is_clean_refusal(open(bundle, required)));
    if (size < n_front) continue;
    std::memcpy(bundle.data() + 40, &size, 8);
    rehash(bundle);
    REQUIRE(open(bundle, required).code() == StatusCode::kSignature);
  }
}

TEST_CASE("T36_signatures: nothing is parsed before the signature is checked") {
  const RequiredKey required = our_key().public_key();
  const Bytes wild = bundle_with_wild_directory();
  check_refused(open(wild), StatusCode::kCorrupt, "FlatBuffer");
  check_refused(open(sign(wild), required), StatusCode::kCorrupt, "FlatBuffer");
  check_signature_refused(open(wild, required), "unsigned");
  check_signature_refused(open(sign(wild, other_key()), required), "found");
  Bytes wrong = sign(wild);
  wrong[kSignatureAt] ^= 1;
  check_signature_refused(open(wrong, required), "does not fit");
  check_signature_refused(open(wrong), "does not fit");
  // The zero bytes behind the directory come later too.
  wrong = signed_bundle();
  wrong[kSignatureAt] ^= 1;
  wrong[static_cast<size_t>(segment_base_of(wrong)) - 1] = 1;
  check_signature_refused(open(wrong), "does not fit");
}

TEST_CASE("T36_signatures: nothing behind the directory is read before the signature is checked") {
  const int64_t n_front = segment_base_of(tiny_bundle());
  const std::vector<RecordingSource::Range> front = {{0, kBundleHeaderBytes}, {0, n_front}};
  for (const Bytes& bundle : {tiny_bundle(), sign(tiny_bundle(), other_key())}) {
    std::vector<RecordingSource::Range> ranges;
    const auto refused =
        Bundle::open(std::make_unique<RecordingSource>(bundle, ranges), {}, our_key().public_key());
    CHECK(refused.status().code() == StatusCode::kSignature);
    CHECK((ranges == front));
  }
  std::vector<RecordingSource::Range> ranges;
  REQUIRE(Bundle::open(std::make_unique<RecordingSource>(signed_bundle(), ranges), {},
                       our_key().public_key())
              .ok());
  CHECK(ranges.size() > front.size());
}

TEST_CASE("T36_signatures: a signature with S of L or more") {
  // L, the order of the base point: S + L is the same number to whoever does not look at its size.
  constexpr std::array<uint8_t, 32> kOrder = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,
                                              0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
                                              0,    0,    0,    0,    0,    0,    0,    0,
                                              0,    0,    0,    0,    0,    0,    0,    0x10};
  Bytes bundle = signed_bundle();
  unsigned carry = 0;
  for (size_t i = 0; i < kOrder.size(); ++i) {
    carry += bundle[kSignatureAt + 32 + i] + kOrder[i];
    bundle[kSignatureAt + 32 + i] = static_cast<uint8_t>(carry);
    carry >>= 8;
  }
  REQUIRE(carry == 0);
  CHECK_FALSE(openssl_accepts(bundle));
  check_signature_refused(open(bundle), "does not fit");
  check_signature_refused(open(bundle, our_key().public_key()), "does not fit");
}

TEST_CASE("T36_signatures: keys that need no secret") {
  // y of the points whose order divides 8, little-endian, and of two of them plus the prime.
  std::vector<Ed25519PublicKey> points(7, Ed25519PublicKey{});
  points[1][0] = 1;
  points[2].fill(0xff);
  points[2][0] = 0xec;
  points[2][31] = 0x7f;
  points[3] = {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
               0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
               0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05};
  points[4] = {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
               0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
               0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a};
  points[5] = points[6] = points[2];
  points[5][0] = 0xed;  // 0
  points[6][0] = 0xee;  // 1
  const size_t n_points = points.size();
  for (size_t i = 0; i < n_points; ++i) {
    points.push_back(points[i]);
    points.back()[31] |= 0x80;
  }
  // S = 0 and R of small order: OpenSSL accepts what fits by chance, whatever the bundle says.
  int n_accepted_by_openssl = 0;
  for (const Ed25519PublicKey& key : points) {
    CAPTURE(hexadecimal(key));
    CHECK_FALSE(is_signing_key(key));
    for (const Ed25519PublicKey& r : points) {
      Bytes bundle = tiny_bundle();
      put(bundle, kKeyAt, key);
      put(bundle, kSignatureAt, r);
      // Key and signature of zeros are an unsigned bundle.
      const bool is_unsigned = std::all_of(bundle.begin() + kSignatureAt, bundle.begin() + kRoomEnd,
                                           [](uint8_t byte) { return byte == 0; });
      if (openssl_accepts(bundle)) ++n_accepted_by_openssl;
      if (!is_unsigned) check_signature_refused(open(bundle), "does not fit");
      CHECK(open(bundle, key).code() == StatusCode::kSignature);
    }
  }
  CHECK(n_accepted_by_openssl > 0);
  MESSAGE(n_accepted_by_openssl << " signatures without a secret that OpenSSL accepts");
  // Their neighbours are ordinary.
  for (const uint8_t first : {0xeb, 0xec}) {
    Ed25519PublicKey y = points[2];
    y[0] = first;
    CHECK(is_signing_key(y) == (first == 0xeb));
  }
  CHECK(is_signing_key({2}));
  CHECK(is_signing_key(our_key().public_key()));
}

}  // namespace flexq::test
